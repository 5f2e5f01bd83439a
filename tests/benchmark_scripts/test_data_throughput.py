"""The measuring script for reading images: every implementation is measured, on the same images."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from pictures import make_pictures
from scripts import script

throughput = script("data_throughput")


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The script uses one thread, the tests after it as many as before."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("own", [False, True], ids=["generated", "own folder"])
def test_the_script(tmp_path: Path, capsys: pytest.CaptureFixture[str], own: bool) -> None:
    table, picture = tmp_path / "rows.csv", tmp_path / "rows.png"
    sizes = ["--images", "4", "--size", "32", "--image-size", "28", "--repeats", "1"]
    folder = ["--folder", str(make_pictures(tmp_path / "own"))] if own else []
    throughput.main([*sizes, *folder, "--csv", str(table), "--figure", str(picture)])
    rows = list(csv.DictReader(table.open()))
    names = ["PIL folder", "torchvision folder", "packed, PIL", "packed, tensors"]
    assert [(row["mode"], row["implementation"]) for row in rows] == [
        ("once", "packing"),
        *(("train", name) for name in names),
        *(("eval", name) for name in [*names, "eval cache"]),
    ]
    for row in rows:
        assert row["images"] == "4"
        assert float(row["seconds"]) * float(row["images_per_second"]) == pytest.approx(4)
        assert row["threads"] == "1"
    assert [row["ratio_to_pil"] for row in rows if row["implementation"] == "PIL folder"] == [
        "1.0",
        "1.0",
    ]
    assert int(rows[-1]["stored_bytes"]) == 28 * 28 * 3
    assert picture.stat().st_size > 10_000
    assert "eval cache" in capsys.readouterr().out


def test_what_is_compared_reads_the_same_images(tmp_path: Path) -> None:
    folder, packed = make_pictures(tmp_path / "own"), tmp_path / "own.pack"
    throughput.pack_folder(folder, packed, size=32)
    compared = throughput.data_sets(folder, packed, tmp_path, 28)
    base = compared["eval"]["PIL folder"]
    for name, data in compared["eval"].items():
        for (image, label), (expected, original) in zip(data, base, strict=True):
            assert label == original
            if name in ("packed, PIL", "eval cache"):
                assert torch.equal(image, expected)
            else:  # torchvision's bicubic rounds otherwise than Pillow's; noise shows it most
                assert image.shape == expected.shape
                assert (image - expected).abs().mean() < 0.05
    assert {data[0][0].shape for data in compared["train"].values()} == {(3, 28, 28)}


def test_the_texture_falls_off_as_one_over_f() -> None:
    image = throughput.texture(256, 256, throughput.np.random.default_rng(0))
    amplitude = abs(throughput.np.fft.rfft2(image[..., 1].astype(float)))
    low, high = amplitude[8:12, 8:12].mean(), amplitude[32:48, 32:48].mean()
    assert 2.5 < low / high < 6.5  # four times the frequency, a quarter of the amplitude
