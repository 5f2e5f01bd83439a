"""A learned model as files: it predicts what the run's strategy predicted, without Avalanche."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from short_runs import short_config
from tiny import tiny_benchmark, tiny_images

import avalanche_care
from avalanche_care.benchmarks import GlyphBenchmark
from avalanche_care.experiments import export_run, run_config
from avalanche_care.experiments.exported import save_exported
from avalanche_care.experiments.launch import run
from avalanche_care.nn import CaREModel, FrozenViT
from avalanche_care.nn.weights import embedded_metadata
from avalanche_care.strategies.registry import available_methods, get_method

QUICK: dict[str, Any] = {"care": {"epochs": 1, "alignment_epochs": 1, "lr": 0.003}}
CLASSES = 6
METHODS = ["care", "simplecil", "finetune"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Make a run of a method and export it, once; return run directory and export."""
    made: dict[str, tuple[Path, Path]] = {}

    def get(method: str) -> tuple[Path, Path]:
        if method not in made:
            base = tmp_path_factory.mktemp(method)
            config = run_config(
                {
                    "method": method,
                    "settings": QUICK.get(method, {}),
                    "benchmark": {
                        "name": "glyphs",
                        "protocol": "B0-Inc3",
                        "n_classes": CLASSES,
                    },
                }
            )
            run(config, base, progress=False)
            directory = base / config.directory_name
            made[method] = directory, export_run(directory, base / "exported")
        return made[method]

    return get


@pytest.mark.parametrize("method", METHODS)
def test_it_predicts_what_the_run_predicted(method: str, exported: Any) -> None:
    directory, out = exported(method)
    model = avalanche_care.load(out)
    benchmark = GlyphBenchmark("B0-Inc3", n_classes=CLASSES)
    assert model.class_names == list(benchmark.class_names or ())[:CLASSES]
    test = benchmark.seen_stream[-1].dataset.eval()
    images = torch.stack([test[i][0] for i in range(len(test))])
    labels = torch.tensor([int(test[i][1]) for i in range(len(test))])
    right = model.scores(images).argmax(1) == labels
    result = json.loads((directory / "result.json").read_text())
    assert right.sum() / len(labels) == pytest.approx(result["A_last"])
    assert not model.model.training


def picture(benchmark: Any, label: int, path: Path) -> Path:
    """A test image of a class as a PNG file."""
    test = benchmark.seen_stream[-1].dataset.eval()
    index = [int(test[i][1]) for i in range(len(test))].index(label)
    pixels = ((test[index][0] + 1) * 127.5).round().to(torch.uint8)
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(path)
    return path


def test_images_are_prepared_as_in_the_run(exported: Any, tmp_path: Path) -> None:
    model = avalanche_care.load(exported("simplecil")[1])
    benchmark = GlyphBenchmark("B0-Inc3", n_classes=CLASSES)
    files = [picture(benchmark, label, tmp_path / f"{label}.png") for label in range(CLASSES)]
    found = model.predict(files, top=2)
    names = list(benchmark.class_names or ())
    assert [row[0].name for row in found] == names[:CLASSES]
    for row in found:
        assert len(row) == 2
        assert 1 >= row[0].score >= row[1].score > 0
    opened = [Image.open(file) for file in files]
    assert model.predict(opened, top=2) == found
    assert model.predict([]) == []
    assert len(model.predict(files[:1], top=99)[0]) == CLASSES
    with pytest.raises(ValueError, match="top must be at least 1"):
        model.predict(files, top=0)
    (tmp_path / "broken.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"cannot read the image .*broken\.png"):
        model.predict([tmp_path / "broken.png"])


def test_avalanche_is_not_needed(exported: Any) -> None:
    out = str(exported("care")[1])
    code = (
        f"import avalanche_care, torch, sys; m = avalanche_care.load({out!r})\n"
        "print(m.scores(torch.zeros(2, 3, 32, 32)).shape, 'avalanche' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["torch.Size([2,", f"{CLASSES}])", "False"]


def test_the_backbone_can_go_along(exported: Any, tmp_path: Path) -> None:
    directory, alone = exported("care")
    out = export_run(directory, tmp_path / "whole", with_backbone=True)
    assert (out / "backbone.safetensors").exists()
    assert not (alone / "backbone.safetensors").exists()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    assert torch.equal(avalanche_care.load(out).scores(x), avalanche_care.load(alone).scores(x))


def test_those_who_may_read_other_files_may_read_it(exported: Any, tmp_path: Path) -> None:
    directory, _ = exported("simplecil")
    out = export_run(directory, tmp_path / "model", with_backbone=True)
    (tmp_path / "other").touch()
    expected = (tmp_path / "other").stat().st_mode
    assert {file.stat().st_mode for file in out.iterdir()} == {expected}


def test_a_backbone_of_timm_at_another_size(tmp_path: Path) -> None:
    import timm

    vit = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0)
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    name = "vit_tiny_patch16_224"
    backbone = FrozenViT.create(name, weights=tmp_path / "vit.pth", img_size=32)
    model = CaREModel(backbone)
    model.expand(0, range(3))
    save_exported(model, tmp_path / "out", prediction={}, with_backbone=True)
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = model.eval()(x)
    loaded = avalanche_care.load(tmp_path / "out")
    assert torch.equal(loaded.scores(x), expected)
    with pytest.raises(ValueError, match="transforms that were not recorded"):
        loaded.predict(["x.png"])


@pytest.mark.parametrize("method", sorted(available_methods()))
def test_every_method_can_be_exported(method: str, tmp_path: Path) -> None:
    size = (3, 32, 32)
    train, test = (tiny_images(4, split=split, shape=size) for split in (0, 1))
    benchmark = tiny_benchmark(n_classes=4, train=train, test=test)
    strategy = get_method(method).strategy(
        model=FrozenViT.create("glyph_vit_micro"), config=short_config(method), evaluator=None
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)
    out = save_exported(strategy.model, tmp_path / "out", prediction=strategy.prediction())
    x = torch.stack([image for image, *_ in benchmark.test_stream[0].dataset])
    with torch.no_grad():
        expected = strategy.model.eval().predict(x, **strategy.prediction())
    assert torch.equal(avalanche_care.load(out).scores(x), expected)


def test_another_backbone_is_refused(exported: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    vit = FrozenViT.create("glyph_vit_micro").vit
    other = {name: value + 1e-3 for name, value in vit.state_dict().items()}
    save_file(other, tmp_path / "other.safetensors", embedded_metadata("glyph_vit_micro"))
    with pytest.raises(ValueError, match="pass the file with the right ones as weights"):
        avalanche_care.load(exported("care")[1], weights=tmp_path / "other.safetensors")


def edit(out: Path, target: Path, **changes: Any) -> Path:
    """A copy of an exported model with another description."""
    target.mkdir()
    (target / "model.safetensors").write_bytes((out / "model.safetensors").read_bytes())
    about = json.loads((out / "model.json").read_text())
    (target / "model.json").write_text(json.dumps({**about, **changes}))
    return target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 9}, "is of format 9, this version of avalanche_care reads 1"),
        ({"model": "os.system"}, "there is no model 'os.system'"),
        ({"model": "..evil.Thing"}, "there is no model"),
        ({"model": "vit.FrozenViT"}, "'vit.FrozenViT' is no model"),
        ({"arguments": {}}, "does not fit"),
        ({"model": "classifier.FrozenClassifier", "arguments": {"head": "Odd"}}, "does not fit"),
        (
            {"model": "classifier.FrozenClassifier", "arguments": {"head": "CosineHead"}},
            "the state is of another model",
        ),
    ],
)
def test_files_that_do_not_fit(
    exported: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    bad = edit(exported("care")[1], tmp_path / "bad", **changes)
    with pytest.raises(ValueError, match=message):
        avalanche_care.load(bad)


def test_damaged_files(exported: Any, tmp_path: Path) -> None:
    bad = edit(exported("care")[1], tmp_path / "bad")
    data = (bad / "model.safetensors").read_bytes()
    (bad / "model.safetensors").write_bytes(data[:-9])
    with pytest.raises(ValueError, match=r"model\.safetensors does not fit"):
        avalanche_care.load(bad)
    for text in ("{", "[]", "{}"):
        (bad / "model.json").write_text(text)
        with pytest.raises(ValueError, match="does not describe an exported model"):
            avalanche_care.load(bad)
    with pytest.raises(FileNotFoundError, match="holds no exported model"):
        avalanche_care.load(tmp_path)


def test_a_model_is_not_written_over(exported: Any) -> None:
    directory, out = exported("simplecil")
    with pytest.raises(FileExistsError, match="holds a model already"):
        export_run(directory, out)


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    class Own(CaREModel):
        pass

    with pytest.raises(ValueError, match="a Own cannot be exported"):
        save_exported(Own(FrozenViT.create("glyph_vit_micro")), tmp_path / "x", prediction={})
    with pytest.raises(ValueError, match="is not the directory of a run"):
        export_run(tmp_path, tmp_path / "out")
