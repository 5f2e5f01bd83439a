"""Images out of Parquet files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from layouts import parquet_bytes, picture, read_tree, zip_bytes

from avalanche_care.benchmarks.importing.parquet import export_parquet
from avalanche_care.benchmarks.importing.prepare import prepare_dataset

pyarrow = pytest.importorskip("pyarrow")

JPEG, PNG = picture(1), picture(2, "PNG")


def exported(tmp_path: Path, data: bytes, name: str = "train-0.parquet") -> dict[str, bytes]:
    (tmp_path / name).write_bytes(data)
    assert export_parquet(tmp_path / name, tmp_path / "out") == tmp_path / "out"
    return read_tree(tmp_path / "out")


def image(data: bytes | None, path: str | None = None) -> dict[str, Any]:
    return {"bytes": data, "path": path}


def test_the_hubs_form(tmp_path: Path) -> None:
    """Class names are those of the metadata, bytes are unchanged, names are kept where they can."""
    rows = [
        {"image": image(JPEG, "x/1.jpg"), "label": 1},
        {"image": image(PNG, None), "label": 0},
        {"image": image(PNG, "1.jpg"), "label": 1},  # the same name again, with another content
        {"image": image(JPEG, "no suffix"), "label": 0},
        {"image": image(b"broken"), "label": 0},  # comes out, so that verify can report it
    ]
    assert exported(tmp_path, parquet_bytes(rows, ["bee", "ant"])) == {
        "ant/1.jpg": JPEG,
        "ant/1-train-0-0000002.jpg": PNG,
        "bee/train-0-0000001.png": PNG,
        "bee/no suffix.jpg": JPEG,
        "bee/train-0-0000004.jpg": b"broken",
    }


@pytest.mark.parametrize(
    ("row", "place"),
    [
        ({"img": JPEG, "fine_label": "ant", "coarse_label": "insects"}, "ant"),
        ({"picture": JPEG, "class": "ant", "other": b""}, "ant"),
        ({"image": image(JPEG), "label": 7, "id": 3}, "00007"),
        ({"image": image(JPEG), "label": "ant", "split": "test"}, "test/ant"),
        ({"image": image(JPEG), "label": "ant", "split": "test", "realm": "bug"}, "test/bug/ant"),
        ({"anything": image(JPEG), "class_name": "a/b"}, "a_b"),
        ({"image": JPEG, "label": "../../evil"}, "_.._evil"),
    ],
)
def test_other_forms(tmp_path: Path, row: dict[str, Any], place: str) -> None:
    assert exported(tmp_path, parquet_bytes([row])) == {f"{place}/train-0-0000000.jpg": JPEG}


def test_dictionary_encoded_labels(tmp_path: Path) -> None:
    from pyarrow import parquet

    labels = pyarrow.array(["ant", "bee"]).dictionary_encode()
    table = pyarrow.table({"image": [JPEG, PNG], "label": labels})
    parquet.write_table(table, tmp_path / "x.parquet")
    export_parquet(tmp_path / "x.parquet", tmp_path / "out")
    assert set(read_tree(tmp_path / "out")) == {"ant/x-0000000.jpg", "bee/x-0000001.png"}


@pytest.mark.parametrize("path", ["../../evil.jpg", "/evil.jpg", "..\\evil.jpg", "C:\\evil.jpg"])
def test_paths_of_images_do_not_lead_out(tmp_path: Path, path: str) -> None:
    rows = [{"image": image(JPEG, path), "label": 0}]
    assert exported(tmp_path, parquet_bytes(rows, ["ant"])) == {"ant/evil.jpg": JPEG}


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ([{"image": JPEG}], (), r"holds the labels; .* it has: image \(binary\)"),
        ([{"label": 1, "text": "x"}], (), r"holds the images; .* it has: label \(int64\), text"),
        ([{"a": 1.5}], (), "holds the images and labels"),
        ([{"left": JPEG, "right": JPEG, "label": 1}], (), "holds the images"),
        ([{"image": image(None, "a.jpg"), "label": 0}], ("a",), "row 0 has no image bytes"),
        (
            [{"image": image(JPEG), "label": -1}],
            ("a",),
            "row 0 has the label -1, which is",
        ),
        ([{"image": image(JPEG), "label": -1}], (), "has the label -1"),
        ([{"image": image(JPEG), "label": 1}], ("a",), "expected text or a number below 1"),
        (
            [{"image": image(JPEG), "label": n} for n in (0, None)],
            ("a",),
            "row 1 has the label None.*without labels",
        ),
        ([{"image": image(JPEG), "label": 0}], ("a/b", "a\\b"), "are not different"),
        ([{"image": image(JPEG), "label": ".."}], (), "expected a name"),
    ],
)
def test_what_is_not_understood_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], names: tuple[str, ...], message: str
) -> None:
    (tmp_path / "x.parquet").write_bytes(parquet_bytes(rows, names))
    with pytest.raises(ValueError, match=message):
        export_parquet(tmp_path / "x.parquet", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_damaged(tmp_path: Path, keep: float) -> None:
    data = parquet_bytes([{"image": JPEG, "label": 1}] * 9)
    (tmp_path / "x.parquet").write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(ValueError, match=r"x.parquet is damaged or cut short .*get it again"):
        export_parquet(tmp_path / "x.parquet", tmp_path / "out")


def test_a_damaged_page(tmp_path: Path) -> None:
    data = bytearray(parquet_bytes([{"image": JPEG, "label": 1}] * 9))
    data[20:400] = bytes(380)
    (tmp_path / "x.parquet").write_bytes(data)
    with pytest.raises(ValueError, match="is damaged or cut short"):
        export_parquet(tmp_path / "x.parquet", tmp_path / "out")


def test_a_stopped_export_starts_over(tmp_path: Path) -> None:
    (tmp_path / "out.part").mkdir()
    (tmp_path / "out.part" / "half.jpg").write_bytes(b"half")
    rows = [{"image": JPEG, "label": 1}]
    assert len(exported(tmp_path, parquet_bytes(rows))) == 1


def test_a_file_is_never_in_memory_as_a_whole(tmp_path: Path) -> None:
    rows = [{"image": bytes([k]) * 100_000 + JPEG, "label": 1} for k in range(200)]
    data = parquet_bytes(rows, row_group_size=10)
    (tmp_path / "x.parquet").write_bytes(data)
    pool = pyarrow.default_memory_pool()
    before, largest = pool.bytes_allocated(), 0
    from avalanche_care.benchmarks.importing import parquet

    write = parquet._write

    def measuring(*args: Any) -> None:
        nonlocal largest
        largest = max(largest, pool.bytes_allocated() - before)
        write(*args)

    parquet._write = measuring
    try:
        export_parquet(tmp_path / "x.parquet", tmp_path / "out")
    finally:
        parquet._write = write
    assert len(list((tmp_path / "out").rglob("*.jpg"))) == 200
    assert 0 < largest < 10_000_000  # of 20 MB


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is unpacked, and only where it is needed."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    source = tmp_path / "source"
    (source / "train").mkdir(parents=True)
    (source / "train" / "0.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    (source / "a.zip").write_bytes(zip_bytes({"test/ant/0.jpg": JPEG}))
    with pytest.raises(ValueError, match=r'pip install "avalanche-care\[parquet\]"'):
        prepare_dataset(source, tmp_path / "mini", name="mini")
    assert not list(tmp_path.rglob("0.jpg"))
