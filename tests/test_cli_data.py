"""The data commands: what they pass on, what they print, and how they refuse."""

from __future__ import annotations

import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from pictures import make_pictures

from avalanche_care.benchmarks.catalogue import CARDS
from avalanche_care.benchmarks.dataset_record import DatasetRecord
from avalanche_care.cli import main

RECORD = DatasetRecord(name="mine", classes=3, train_images=9, test_images=6)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The images of a CUB that has three classes."""
    counts = {"classes": 3, "train_images": 9, "test_images": 6}
    mini = dataclasses.replace(CARDS["cub"], protocols=("B0-Inc1",), **counts)
    monkeypatch.setitem(CARDS, "cub", mini)  # type: ignore[arg-type]
    make_pictures(tmp_path / "files" / "train", count=3)
    make_pictures(tmp_path / "files" / "test", count=2, seed=1)
    return tmp_path / "files"


def test_download_info_and_verify(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "data"
    at = ["--root", str(root), "--quiet"]
    assert main(["data", "download", "cub", "--from", str(files), *at]) == 0
    summary = f"{root}/cub: 3 classes, 9 training and 6 test images\n"
    assert capsys.readouterr() == (summary, "")
    assert main(["data", "info", "cub", *at]) == 0
    output = capsys.readouterr().out
    assert output.startswith("CUB-200 (cub)\nclasses       3\nimages        9 for training, 6 for")
    assert f"on disk       {root}/cub, 16 files, 0.00 GB\n" in output
    assert main(["data", "info", *at]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith("cub ")] == [["cub", *"396", "cub"]]
    assert len(lines) == 1 + len(CARDS)
    assert main(["data", "verify", "cub", *at]) == 0
    output = capsys.readouterr().out
    assert output.startswith(f"{root}/cub: 3 classes, 9 train and 6 test images; 15 opened\n")
    assert output.endswith("all is well\n")
    image = next((root / "cub" / "test").rglob("*.png"))
    image.unlink()  # it may be a hard link of the source
    image.write_bytes(b"no image")
    for target in ("cub", str(root / "cub")):
        assert main(["data", "verify", target, *at]) == 2
        out, error = capsys.readouterr()
        assert out == ""
        assert f"unreadable files (1):\n- {image.relative_to(root / 'cub')}: cannot" in error
    image.unlink()
    assert main(["data", "verify", str(root / "cub"), "--renew", "--deep", "--workers", "2"]) == 2
    error = capsys.readouterr().err
    assert "5 test images, expected 6 (appendix" in error
    assert "verifying: 100%" in error
    assert main(["data", "download", "cub", "--from", str(files), *at, "--force"]) == 0
    assert main(["data", "verify", "cub", *at]) == 0


def test_import_and_info(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    at = ["--root", str(root), "--quiet"]
    split = ["--test-per-class", "1"]
    assert main(["data", "import", str(files / "train"), "--name", "mine", *split, *at]) == 0
    assert capsys.readouterr().out == f"{root}/mine: 3 classes, 6 training and 3 test images\n"
    assert main(["data", "info", "mine", *at]) == 0
    output = capsys.readouterr().out
    assert output.startswith("mine (imported)\nclasses       3\n")
    assert f'load_benchmark("mine", "B0-Inc10", root="{root}")' in output
    assert main(["data", "info", *at]) == 0
    assert "mine (imported)" in capsys.readouterr().out
    assert main(["data", "verify", "mine", *at]) == 0
    (root / "mine" / "dataset.json").write_text("{", encoding="utf-8")
    assert main(["data", "verify", "mine", *at]) == 2
    assert "dataset.json is not a JSON file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "module", "function", "expected"),
    [
        (
            "import photos --name mine --root r --test-fraction 0.2 --split-seed 7 --realm-level "
            "--link --quiet",
            "importing.own",
            "import_data",
            {
                "test_fraction": 0.2,
                "test_per_class": None,
                "split_seed": 7,
                "realm_level": True,
                "link": True,
                "progress": False,
            },
        ),
        (
            "curate photos --name mine --root r --classes 30 --seed 5 --train-per-class 9 "
            "--test-per-class 8 --min-images 7",
            "curation",
            "curate",
            {
                "classes": 30,
                "seed": 5,
                "train_per_class": 9,
                "test_per_class": 8,
                "min_images": 7,
                "link": False,
                "progress": True,
            },
        ),
    ],
)
def test_what_import_and_curate_pass_on(
    arguments: str,
    module: str,
    function: str,
    expected: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = []

    def called(*positional: Any, **named: Any) -> DatasetRecord:
        calls.append((positional, named))
        realms = {"insects": ["ant", "bee"], "mammals": ["cat"]}
        details = {"not_published": "another list", "licence": "ask first"}
        return dataclasses.replace(RECORD, realms=realms, details=details)

    monkeypatch.setattr(f"avalanche_care.benchmarks.{module}.{function}", called)
    assert main(["data", *arguments.split()]) == 0
    assert calls == [(("photos", "mine", "r"), expected)]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "r/mine: 3 classes in 2 realms, 9 training and 6 test images"
    assert lines[1:] == (["another list", "ask first"] if function == "curate" else [])


@pytest.mark.parametrize("command", ["download", "verify"])
def test_control_c(
    command: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    names = {
        "download": "importing.download.download_dataset",
        "verify": "checking.verify.verify_dataset",
    }
    monkeypatch.setattr(f"avalanche_care.benchmarks.{names[command]}", interrupted)
    argument = "cub" if command == "download" else str(files)
    assert main(["data", command, argument, "--quiet"]) == 130
    goes_on = "; the same command goes on from here" if command == "download" else ""
    assert capsys.readouterr().err == f"avalanche-care: stopped{goes_on}\n"


def test_pack_and_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = make_pictures(tmp_path / "pictures"), tmp_path / "data" / "train.pack"
    pack = ["data", "pack", str(folder), "--out", str(out), "--size", "16", "--workers", "2"]
    assert main([*pack, "--quiet"]) == 0
    output = capsys.readouterr()
    assert output.out == f"{out}: 9 images of 3 classes\n"
    assert output.err == ""
    assert main([*pack, "--force"]) == 0
    assert "packing: 100%" in capsys.readouterr().err
    assert main(["data", "verify", str(out), "--quiet"]) == 0
    assert capsys.readouterr().out == f"{out}: 9 images of 3 classes, all intact\n"
    out.write_bytes(out.read_bytes()[:-1] + b"?")
    assert main(["data", "verify", str(out), "--quiet"]) == 2
    assert capsys.readouterr().err.endswith("pack the images again:\n- cat/8.jpg\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pack", "{}/nowhere", "--out", "{}/x.pack"], "no such directory: {}/nowhere"),
        (["pack", "{}/pictures", "--out", "{}/there.pack"], "there.pack is there already; --force"),
        (["pack", "{}/pictures", "--out", "{}/x.pack", "--size", "-3"], "got size=-3"),
        (["verify", "{}/there.pack"], "there.pack is not a packed image file"),
        (["verify", "{}/no.pack"], "'{}/no.pack' is no file or folder"),
        (["verify", "cup"], "no data set in {}/root or in the catalogue, did you mean 'cub'?"),
        (["verify", "cub"], "CUB-200 is not in {}/root"),
        (["verify", "{}/pictures", "--workers", "0"], "workers must be at least 1, got 0"),
        (["info", "cup"], "no data set is called 'cup', did you mean 'cub'?"),
        (["download", "cup"], "no data set is called 'cup', did you mean 'cub'?"),
        (["download", "cub"], "has to be fetched by hand from http"),
        (["download", "cub", "--from", "{}/nowhere"], "no such file or directory: {}/nowhere"),
        (["import", "{}/nowhere", "--name", "mine"], "{}/nowhere"),
        (["import", "{}/pictures", "--name", "cub", "--test-fraction", "0.5"], "cub"),
        (["curate", "{}/nowhere", "--name", "mine"], "{}/nowhere"),
    ],
)
def test_what_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AVALANCHE_CARE_DATA", str(tmp_path / "root"))
    make_pictures(tmp_path / "pictures")
    (tmp_path / "there.pack").write_bytes(b"something else")
    assert main(["data", *(argument.format(tmp_path) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("avalanche-care: ")
    assert message.format(tmp_path) in error
    assert len(error.splitlines()) == 1
    assert (tmp_path / "there.pack").read_bytes() == b"something else"


def test_pack_can_be_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from avalanche_care.benchmarks import _pack_source
    from avalanche_care.benchmarks.images import load_image

    folder, out = make_pictures(tmp_path / "pictures"), tmp_path / "train.pack"

    def load(path: str) -> object:
        if path.endswith("7.png"):
            os.kill(os.getpid(), signal.SIGINT)  # what control-C sends
        return load_image(path)

    pack = ["data", "pack", str(folder), "--out", str(out), "--quiet"]
    with monkeypatch.context() as patch:
        patch.setattr(_pack_source, "load_image", load)
        assert main(pack) == 130
    assert "stopped; the same command goes on from here" in capsys.readouterr().err
    assert not out.exists()
    assert main(pack) == 0
    assert main(["data", "verify", str(out), "--quiet"]) == 0
