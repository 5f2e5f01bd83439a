"""Loading weights by name, from files of every kind, and what is said when they do not fit."""

import hashlib
import json

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

from avalanche_care.nn import weights as weights_module
from avalanche_care.nn.vit import FrozenViT
from avalanche_care.nn.weight_files import load_weights
from avalanche_care.nn.weights import BackboneInfo, build_vit, state_sha256

ARCH = "vit_tiny_patch16_224"
MICRO = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """No test may reach the hub: offline is what a test that forgets would meet."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def tiny() -> dict[str, torch.Tensor]:
    """The state dict of a whole ViT-Ti/16 at 32 px with a classifier."""
    return randomised(timm.create_model(ARCH, img_size=32, num_classes=7)).state_dict()


def randomised(vit):
    with torch.no_grad():
        for parameter in vit.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return vit.eval()


def micro(**kwargs) -> VisionTransformer:
    return randomised(VisionTransformer(**{**MICRO, "num_classes": 0, **kwargs}))


def timm_features(state, img_size=32, arch=ARCH) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and what timm makes of them with this state dict (its own resampling)."""
    vit = timm.create_model(arch, img_size=img_size, num_classes=0).eval()
    state = {k: v for k, v in state.items() if not k.startswith("head")}
    old = state["pos_embed"]
    if old.shape != vit.pos_embed.shape:
        state["pos_embed"] = resample_abs_pos_embed(
            old, list(vit.patch_embed.grid_size), num_prefix_tokens=vit.num_prefix_tokens
        )
    vit.load_state_dict(state)
    x = torch.randn(2, 3, img_size, img_size)
    with torch.no_grad():
        return x, vit.forward_head(vit.forward_features(x), pre_logits=True)


def write(path, state, wrap=None, prefix="", metadata=None):
    state = {prefix + k: v.contiguous() for k, v in state.items()}
    if path.suffix == ".safetensors":
        save_file(state, path, metadata=metadata)
    else:
        torch.save({wrap: state, "epoch": 3} if wrap else state, path)
    return path


@pytest.mark.parametrize(
    ("file", "wrap", "prefix"),
    [
        ("w.safetensors", None, ""),
        ("w.pth", None, ""),
        ("w.pt", "state_dict", "module."),
        ("w.bin", "model", ""),
    ],
)
def test_local_file(tmp_path, tiny, file, wrap, prefix):
    path = write(tmp_path / file, tiny, wrap, prefix)
    backbone = FrozenViT.create(ARCH, weights=path, img_size=32)
    x, expected = timm_features(tiny)
    assert torch.equal(backbone(x), expected)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert backbone.info == BackboneInfo(ARCH, f"file:{file}", digest)
    assert not any(k.startswith("head") for k in backbone.vit.state_dict())


def test_position_table_is_resampled_to_the_image_size(tmp_path, tiny):
    path = write(tmp_path / "w.safetensors", tiny)
    backbone = FrozenViT.create(f"{ARCH}.augreg_in21k", weights=str(path), img_size=64)
    x, expected = timm_features(tiny, img_size=64)
    assert torch.equal(backbone(x), expected)
    assert backbone.img_size == (64, 64)
    assert backbone.info.name == f"{ARCH}.augreg_in21k"
    assert FrozenViT.create(ARCH, weights=path).img_size == (224, 224)


def test_distilled_file_loses_both_heads(tmp_path):
    arch = "deit_tiny_distilled_patch16_224"
    state = timm.create_model(arch, img_size=32, num_classes=7).state_dict()
    assert {"head.weight", "head_dist.weight"} <= set(state)
    path = write(tmp_path / "w.pth", state, "model")
    x, expected = timm_features(state, arch=arch)
    assert torch.equal(FrozenViT.create(arch, weights=path, img_size=32)(x), expected)


def google_arrays(vit, skip_block=None) -> dict[str, np.ndarray]:
    """A ViT in the layout of Google's augreg files: flax kernels are (in, out), split by head."""
    state = {k: v.numpy() for k, v in vit.state_dict().items()}
    width, heads = vit.embed_dim, vit.blocks[0].attn.num_heads
    out = {
        "embedding/kernel": state["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for i in range(len(vit.blocks)):
        ours, theirs = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        for norm, j in (("norm1", 0), ("norm2", 2)):
            out[f"{theirs}LayerNorm_{j}/scale"] = state[f"{ours}{norm}.weight"]
            out[f"{theirs}LayerNorm_{j}/bias"] = state[f"{ours}{norm}.bias"]
        attn = f"{theirs}MultiHeadDotProductAttention_1/"
        for j, n in enumerate(("query", "key", "value")):
            rows = slice(j * width, (j + 1) * width)
            weight = state[f"{ours}attn.qkv.weight"][rows]
            out[f"{attn}{n}/kernel"] = weight.T.reshape(width, heads, -1)
            out[f"{attn}{n}/bias"] = state[f"{ours}attn.qkv.bias"][rows].reshape(heads, -1)
        out[f"{attn}out/kernel"] = state[f"{ours}attn.proj.weight"].T.reshape(heads, -1, width)
        out[f"{attn}out/bias"] = state[f"{ours}attn.proj.bias"]
        for j in (0, 1):
            weight = state[f"{ours}mlp.fc{j + 1}.weight"]
            out[f"{theirs}MlpBlock_3/Dense_{j}/kernel"] = weight.T
            out[f"{theirs}MlpBlock_3/Dense_{j}/bias"] = state[f"{ours}mlp.fc{j + 1}.bias"]
    return out


def test_google_npz(tmp_path):
    vit = randomised(timm.create_model(ARCH, img_size=32, num_classes=0))
    np.savez(tmp_path / "w.npz", **google_arrays(vit))
    backbone = FrozenViT.create(ARCH, weights=tmp_path / "w.npz", img_size=32)
    assert state_sha256(backbone.vit) == state_sha256(vit)
    assert backbone.info.weights == "file:w.npz"


def test_npz_that_does_not_fit(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, **google_arrays(micro(depth=3)))
    with pytest.raises(ValueError, match=r"does not fit the architecture A.*3 blocks, expected 2"):
        load_weights(micro(), path, "A")
    np.savez(path, **google_arrays(micro(img_size=32, patch_size=8)))
    with pytest.raises(ValueError, match=r"patch size is \(8, 8\), expected \(4, 4\)"):
        load_weights(micro(), path, "A")
    np.savez(path, **google_arrays(micro(embed_dim=48)))
    with pytest.raises(ValueError, match=r"does not fit the architecture A.*size of tensor"):
        load_weights(micro(), path, "A")
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="expected Google's ViT format"):
        load_weights(micro(), path, "A")
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="expected Google's ViT format"):
        load_weights(micro(), path, "A")


def _renamed(state):
    state["other.weight"] = state.pop("norm.weight")


def _deeper(state):
    for i in range(5):
        state[f"blocks.2.{i}"] = torch.zeros(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_renamed, "1 missing: norm.weight; 1 unexpected: other.weight"),
        (_deeper, "5 unexpected: blocks.2.0, blocks.2.1, blocks.2.2, ..."),
        (
            lambda s: s.update({"norm.bias": torch.zeros(7)}),
            r"1 other shape: norm.bias is \(7,\), expected \(24,\)",
        ),
        (
            lambda s: s.update({"patch_embed.proj.weight": torch.zeros(24, 3, 8, 8)}),
            r"patch_embed.proj.weight is \(24, 3, 8, 8\), expected \(24, 3, 4, 4\)",
        ),
        (
            lambda s: s.update({"pos_embed": torch.zeros(1, 19, 25)}),
            r"pos_embed is \(1, 19, 25\).*timm could not convert it",
        ),
        (lambda s: s.clear(), "missing: cls_token"),
    ],
)
def test_file_that_does_not_fit(tmp_path, change, message):
    state = dict(micro().state_dict())
    change(state)
    path = write(tmp_path / "w.safetensors", state)
    with pytest.raises(
        ValueError, match=f"w.safetensors does not fit the architecture A: .*{message}"
    ):
        load_weights(micro(), path, "A")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*nowhere\.pth"):
        FrozenViT.create(ARCH, weights=tmp_path / "nowhere.pth")
    for name in ("w.safetensors", "w.pth"):
        (tmp_path / name).write_bytes(b"these are not weights")
        with pytest.raises(ValueError, match=f"{name} cannot be read as plain tensors"):
            load_weights(micro(), tmp_path / name, "A")
    torch.save(micro(), tmp_path / "module.pth")
    with pytest.raises(ValueError, match=r"module\.pth cannot be read as plain tensors"):
        load_weights(micro(), tmp_path / "module.pth", "A")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth: expected a state dict.*got list"):
        load_weights(micro(), tmp_path / "list.pth", "A")
    (tmp_path / "w.ckpt").touch()
    with pytest.raises(ValueError, match=r"expected .safetensors, .npz.*got .ckpt"):
        load_weights(micro(), tmp_path / "w.ckpt", "A")


def test_name_without_a_tag_lists_the_tags():
    with pytest.raises(ValueError, match=r"arch.tag.*vit_tiny_patch16_224.augreg_in21k, .*PATH"):
        FrozenViT.create(ARCH)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vit_tiny_patch16_225.x", "no architecture 'vit_tiny_patch16_225'.*vit_tiny_patch16_224"),
        ("glyph_vit_mikro", "Did you mean glyph_vit_micro"),
        ("zzz", r"timm\.list_models\(\)"),
        ("resnet18.a1_in1k", "'resnet18.a1_in1k' is not a plain vision transformer"),
        ("vit_tiny_patch16_224.nope", "no weights 'vit_tiny_patch16_224.nope'.*augreg_in21k"),
        ("vit_base_patch16_224_in21k", "its new name vit_base_patch16_224.augreg_in21k"),
    ],
)
def test_wrong_names(name, message):
    with pytest.raises(ValueError, match=message):
        FrozenViT.create(name)


def test_image_size_must_be_whole_patches(tmp_path, tiny):
    path = write(tmp_path / "w.safetensors", tiny)
    with pytest.raises(ValueError, match=r"multiple of the patch size \(16, 16\), got 40"):
        FrozenViT.create(ARCH, weights=path, img_size=40)
    with pytest.raises(ValueError, match="positive number of pixels, got -16"):
        FrozenViT.create(ARCH, weights=path, img_size=-16)


def test_hub_weights_come_from_timm(monkeypatch):
    """timm's download is replaced by a ViT with random weights; the hash is of the native size."""
    name = f"{ARCH}.augreg_in21k"
    published = randomised(timm.create_model(ARCH, depth=1, num_classes=7))
    calls = []

    def create_model(*args, **kwargs):
        calls.append((args, kwargs))
        vit = timm.models.vision_transformer.vit_tiny_patch16_224(depth=1, num_classes=7)
        vit.load_state_dict(published.state_dict())
        return vit

    monkeypatch.setattr(weights_module.timm, "create_model", create_model)
    small, native = FrozenViT.create(name, img_size=32), FrozenViT.create(name)
    assert calls == [((name,), {"pretrained": True})] * 2
    published.reset_classifier(0)
    assert native.info == BackboneInfo(name, f"timm:{name}", state_sha256(published))
    assert small.info == native.info
    published.set_input_size(img_size=(32, 32))
    x = torch.randn(2, 3, 32, 32)
    expected = published.forward_head(published.forward_features(x), pre_logits=True)
    assert torch.equal(small(x), expected)


def test_offline_says_what_was_tried(monkeypatch):
    def create_model(*args, **kwargs):
        raise ConnectionError("network is unreachable")

    monkeypatch.setattr(weights_module.timm, "create_model", create_model)
    message = "timm/vit_tiny_patch16_224.augreg_in21k.*network is unreachable.*weights=PATH"
    with pytest.raises(OSError, match=message):
        FrozenViT.create(f"{ARCH}.augreg_in21k")


def write_folder(folder, state, **config):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return write(folder / "model.safetensors", state)


def test_timm_folder(tmp_path):
    """The keys that timm's save_for_hf writes."""
    args = {"depth": 1, "img_size": 32}
    vit = randomised(timm.create_model(ARCH, num_classes=7, global_pool="avg", **args))
    cfg = {"num_classes": 7, "input_size": [3, 32, 32], "fixed_input_size": True}
    write_folder(
        tmp_path / "vit",
        vit.state_dict(),
        architecture=ARCH,
        num_classes=7,
        global_pool="avg",
        model_args=args,
        pretrained_cfg=cfg,
    )
    name = f"local-dir:{tmp_path / 'vit'}"
    backbone = FrozenViT.create(name)
    x = torch.randn(2, 3, 32, 32)
    expected = vit.forward_head(vit.forward_features(x), pre_logits=True)
    assert torch.equal(backbone(x), expected)
    digest = hashlib.sha256((tmp_path / "vit" / "model.safetensors").read_bytes()).hexdigest()
    assert backbone.info == BackboneInfo(name, "file:model.safetensors", digest)
    assert FrozenViT.create(name, img_size=64).img_size == (64, 64)


def test_timm_folder_that_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file at .*config\.json"):
        FrozenViT.create(f"local-dir:{tmp_path}")
    write_folder(tmp_path, micro().state_dict(), model="x")
    with pytest.raises(ValueError, match=r"expected a key 'architecture'.*got keys \['model'\]"):
        FrozenViT.create(f"local-dir:{tmp_path}")
    write_folder(tmp_path, micro().state_dict(), architecture="resnet18")
    with pytest.raises(ValueError, match="'resnet18' is not a plain vision transformer"):
        FrozenViT.create(f"local-dir:{tmp_path}")


def test_embedded_name(tmp_path, monkeypatch):
    """A stand-in package folder with a file of the kind that the package ships."""
    vit = micro()
    (tmp_path / "assets").mkdir()
    path = tmp_path / "assets" / "glyph_vit_micro.safetensors"
    write(path, vit.state_dict(), metadata={"architecture": json.dumps(MICRO)})
    monkeypatch.setattr(weights_module.resources, "files", lambda package: tmp_path)
    backbone = FrozenViT.create("glyph_vit_micro")
    x = torch.randn(2, 3, 16, 16)
    expected = vit.forward_head(vit.forward_features(x), pre_logits=True)
    assert torch.equal(backbone(x), expected)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert backbone.info == BackboneInfo("glyph_vit_micro", f"embedded:{path.name}", digest)
    assert FrozenViT.create("glyph_vit_micro", img_size=24).img_size == (24, 24)
    given = FrozenViT.create("glyph_vit_micro", weights=path)
    assert given.info == BackboneInfo("glyph_vit_micro", f"file:{path.name}", digest)
    write(path, vit.state_dict())
    with pytest.raises(ValueError, match=r"metadata has a key 'architecture'.*KeyError"):
        FrozenViT.create("glyph_vit_micro")


def test_building_leaves_the_random_stream_alone(tmp_path, tiny):
    path = write(tmp_path / "w.safetensors", tiny)
    state = torch.get_rng_state()
    build_vit(ARCH, weights=path, img_size=32)
    assert torch.equal(torch.get_rng_state(), state)


def test_state_hash_tells_what_changed():
    vit = micro()
    digest = state_sha256(vit)
    assert state_sha256(vit.double().float()) == digest
    assert state_sha256(vit.double()) != digest
    vit.float().norm.bias.data[3] += 1e-6
    assert state_sha256(vit) != digest
    # The definition, on a module with one parameter.
    one = torch.nn.ParameterDict({"a": torch.ones(2, 1)})
    text = b"a torch.float32 (2, 1)\n" + np.ones(2, dtype="<f4").tobytes()
    assert state_sha256(one) == hashlib.sha256(text).hexdigest()
