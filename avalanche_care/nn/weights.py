"""Where the frozen backbone's weights come from: timm's hub, a local file, or the package."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.models import get_deprecated_models, is_model_in_modules
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from avalanche_care.nn.weight_files import file_sha256, load_weights

EMBEDDED = {"glyph_vit_micro": "glyph_vit_micro.safetensors"}
"""Backbones that the package ships: name -> file in ``avalanche_care/assets``. The file's metadata
has a key ``architecture``, the keyword arguments of timm's VisionTransformer as JSON."""

_VIT_MODULES = ("vision_transformer", "vision_transformer_hybrid", "deit")
_LOCAL_DIR = "local-dir:"
_LOCAL_DIR_FILES = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class BackboneInfo:
    """Which weights a backbone has, for the result files.

    Attributes:
        name: the name it was created by: timm's ``arch.tag``, an embedded name, or the class's
            name for a wrapped module.
        weights: ``"timm:<arch.tag>"`` (loaded by timm), ``"file:<file name>"``,
            ``"embedded:<file name>"`` or ``"module"`` (wrapped as it was).
        sha256: for ``file:`` and ``embedded:`` the hash of the file's bytes, what ``sha256sum``
            prints. For ``timm:`` and ``module`` there is no file to point at, and it is
            :func:`state_sha256` of the ViT; for ``timm:`` taken without the classifier and at the
            architecture's own image size, so it does not depend on ``img_size``.
    """

    name: str
    weights: str
    sha256: str


def build_vit(
    name: str, *, weights: str | Path | None = None, img_size: int | None = None
) -> tuple[VisionTransformer, BackboneInfo]:
    """Build a timm ViT without classifier, with pre-trained weights. The RNG is left as it was.

    A bare architecture name is refused unless a file says which weights are meant, because timm's
    default weights for a bare name changed between versions.

    Args:
        name: ``arch.tag`` (timm downloads the weights or takes them from its cache),
            ``local-dir:FOLDER`` (a folder with timm's config.json and model.safetensors), or a
            name in :data:`EMBEDDED`.
        weights: a local .safetensors, .pth, .pt or .bin file, or an .npz file in Google's format.
            Classifier weights in it are ignored. For an embedded name: a file of the same kind.
        img_size: side of the square input in pixels. timm resamples the position table.

    Returns:
        the ViT on the CPU, and the record of its weights.

    Raises:
        ValueError: unknown name, name without a tag, not a ViT, or a file that does not fit.
        OSError: the weights could not be read or downloaded.
    """
    path = None if weights is None else _existing_file(weights)
    if img_size is not None and img_size < 1:
        raise ValueError(f"img_size: expected a positive number of pixels, got {img_size}.")
    # Random initialisation comes before loading. It must not move the caller's random stream.
    with torch.random.fork_rng(devices=[]):
        if name in EMBEDDED:
            return _build_embedded(name, path, img_size)
        if name.startswith(_LOCAL_DIR):
            return _build_local_dir(name, path, img_size)
        _check_name(name, tag_needed=path is None)
        if path is None:
            return _build_from_hub(name, img_size)
        vit = _create(name, img_size, {})
        load_weights(vit, path, name)
        return vit, BackboneInfo(name, f"file:{path.name}", file_sha256(path))


def state_sha256(module: nn.Module) -> str:
    """SHA-256 of a module's parameters and buffers, wherever they came from.

    Keys in sorted order; of each the line ``key dtype shape`` and then the tensor's bytes (row
    major, little endian). Equal hashes mean bit-identical weights.

    Args:
        module: any module, on any device.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(raw.numpy())
    return digest.hexdigest()


def _build_embedded(
    name: str, path: Path | None, img_size: int | None
) -> tuple[VisionTransformer, BackboneInfo]:
    if path is None:
        asset = resources.files("avalanche_care") / "assets" / EMBEDDED[name]
        with resources.as_file(asset) as asset_path:
            vit = _from_metadata(_existing_file(asset_path), name, img_size)
            return vit, BackboneInfo(name, f"embedded:{EMBEDDED[name]}", file_sha256(asset_path))
    vit = _from_metadata(path, name, img_size)
    return vit, BackboneInfo(name, f"file:{path.name}", file_sha256(path))


def embedded_metadata(name: str) -> dict[str, str] | None:
    """Return what a weights file of an embedded backbone carries besides tensors, else None."""
    if name not in EMBEDDED:
        return None
    asset = resources.files("avalanche_care") / "assets" / EMBEDDED[name]
    with resources.as_file(asset) as path, safe_open(path, framework="pt") as file:
        metadata: dict[str, str] | None = file.metadata()
    return metadata


def _from_metadata(path: Path, name: str, img_size: int | None) -> VisionTransformer:
    """Build what the file's metadata describes, and load the file."""
    try:
        with safe_open(path, framework="pt") as file:
            kwargs = json.loads((file.metadata() or {})["architecture"])
        size = {} if img_size is None else {"img_size": img_size}
        vit = VisionTransformer(**{**kwargs, "num_classes": 0, **size})
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path.name}: expected a safetensors file whose metadata has a key 'architecture' "
            f"with VisionTransformer's arguments as JSON, for {name} ({type(error).__name__}: "
            f"{error}). Write it with save_file(..., metadata={{'architecture': ...}})."
        ) from error
    _check_img_size(vit, img_size)
    load_weights(vit, path, name)
    return vit


def _build_local_dir(
    name: str, path: Path | None, img_size: int | None
) -> tuple[VisionTransformer, BackboneInfo]:
    """Read timm's folder format here: timm itself loads it only in newer versions, not strictly."""
    folder = Path(name[len(_LOCAL_DIR) :])
    config = json.loads(_existing_file(folder / "config.json").read_text(encoding="utf-8"))
    arch = config.get("architecture")
    if not isinstance(arch, str):
        raise ValueError(
            f"{folder / 'config.json'}: expected a key 'architecture' with timm's name of it, "
            f"got keys {sorted(config)}. Save the folder with timm's save_for_hf."
        )
    _check_name(arch, tag_needed=False)
    if path is None:
        found = [folder / f for f in _LOCAL_DIR_FILES if (folder / f).is_file()]
        path = _existing_file(found[0] if found else folder / _LOCAL_DIR_FILES[0])
    kwargs = {k: config.get(k) for k in ("pretrained_cfg", "global_pool")}  # None: timm's default
    vit = _create(arch, img_size, {**kwargs, **config.get("model_args", {})})
    load_weights(vit, path, arch)
    return vit, BackboneInfo(name, f"file:{path.name}", file_sha256(path))


def _build_from_hub(name: str, img_size: int | None) -> tuple[VisionTransformer, BackboneInfo]:
    source = timm.get_pretrained_cfg_value(name, "hf_hub_id")
    try:
        # Without num_classes timm keeps the published classifier, and so loads strictly.
        vit = timm.create_model(name, pretrained=True)
    except Exception as error:  # the hub's client changed its HTTP library: no common base class
        raise OSError(
            f"could not get the weights of {name}: timm tried its cache and {source or 'their URL'}"
            f" and failed ({type(error).__name__}: {error}). Check the network, or download the "
            "file elsewhere and give it as weights=PATH."
        ) from error
    vit = _only_vit(vit, name)
    vit.reset_classifier(0)
    digest = state_sha256(vit)
    _check_img_size(vit, img_size)
    if img_size is not None:
        vit.set_input_size(img_size=(img_size, img_size))
    return vit, BackboneInfo(name, f"timm:{name}", digest)


def _create(name: str, img_size: int | None, kwargs: dict[str, Any]) -> VisionTransformer:
    """Build an architecture with random weights and without classifier."""
    size = {} if img_size is None else {"img_size": img_size}
    vit = _only_vit(timm.create_model(name, **{**kwargs, **size, "num_classes": 0}), name)
    _check_img_size(vit, img_size)
    return vit


def _check_name(name: str, *, tag_needed: bool) -> None:
    """Refuse an unknown name, a non-ViT, an unknown tag, and a bare name where a tag is needed."""
    arch, _, tag = name.partition(".")
    if not timm.is_model(arch):
        known = [*EMBEDDED, *(m for v in _VIT_MODULES for m in timm.list_models(module=v))]
        close = difflib.get_close_matches(arch, known, n=3)
        hint = f"Did you mean {' or '.join(close)}?" if close else "timm.list_models() lists names."
        raise ValueError(f"unknown backbone {name!r}: timm has no architecture {arch!r}. {hint}")
    if not is_model_in_modules(arch, _VIT_MODULES):
        raise ValueError(
            f"{name!r} is not a plain vision transformer in timm. The insertion points need one; "
            "choose a vit_* or deit_* architecture."
        )
    tags = timm.list_pretrained(f"{arch}.*")
    renamed = get_deprecated_models().get(arch)
    choices = ", ".join(tags) or (f"its new name {renamed}" if renamed else "no published weights")
    if tag and name not in tags:
        raise ValueError(f"timm has no weights {name!r}. It has for {arch}: {choices}.")
    if tag_needed and not tag:
        raise ValueError(
            f"{name!r} does not say which weights: expected arch.tag. timm has for it: {choices}. "
            "Or give a local file as weights=PATH."
        )


def _only_vit(model: nn.Module, name: str) -> VisionTransformer:
    if not isinstance(model, VisionTransformer):
        raise ValueError(
            f"{name!r} is a {type(model).__name__} in timm, expected a VisionTransformer. "
            "Choose a vit_* or deit_* architecture."
        )
    return model


def _check_img_size(vit: VisionTransformer, img_size: int | None) -> None:
    patch = vit.patch_embed.patch_size
    if img_size is not None and any(img_size % p for p in patch):
        raise ValueError(
            f"img_size: expected a multiple of the patch size {tuple(patch)}, got "
            f"{img_size}. timm would cut off the rest of the image."
        )


def _existing_file(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}. Check the path.")
    return path
