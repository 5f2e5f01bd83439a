"""Importing what a CSV file lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from own_files import contents, numbered, snapshot, write_files

from avalanche_care.benchmarks.importing.own import import_data

CLASSES = {"cat": numbered(6), "dog": numbered(4)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images in folders that are no classes."""
    write_files(tmp_path / "data", {"one": numbered(6), "two": numbered(4)})
    return tmp_path / "data"


def table(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    file = folder / "list.csv"
    file.write_text("\n".join(lines) + "\n", encoding=encoding)
    return file


ROWS = [*(f"one/{name},cat" for name in numbered(6)), *(f"two/{name},dog" for name in numbered(4))]


def test_a_table_is_split(folder: Path, tmp_path: Path) -> None:
    file = table(folder, "path,label", *ROWS)
    before = snapshot(folder)
    record = import_data(file, "zoo", tmp_path, test_fraction=0.25)
    assert snapshot(folder) == before
    assert (record.classes, record.train_images, record.test_images) == (2, 7, 3)
    assert record.source == str(file)
    train, test = contents(tmp_path / "zoo" / "train"), contents(tmp_path / "zoo" / "test")
    assert train | test == {
        f"{label}/{Path(path).name}": path.encode() for path, label in (r.split(",") for r in ROWS)
    }


def test_a_table_and_folders_with_the_same_names_have_the_same_split(
    folder: Path, tmp_path: Path
) -> None:
    table(folder, "label,path", *(",".join(reversed(row.split(","))) for row in reversed(ROWS)))
    write_files(tmp_path / "photos", CLASSES)
    one = import_data(folder / "list.csv", "one", tmp_path, test_per_class=2)
    two = import_data(tmp_path / "photos", "two", tmp_path, test_per_class=2)
    assert one.details["names_sha256"] == two.details["names_sha256"]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_split_and_realm_columns(
    folder: Path, tmp_path: Path, separator: str, encoding: str
) -> None:
    rows = [
        "Path, Label, Split, Realm, note",
        "one/000.jpg, jay, train, bird, a",
        "one/001.jpg, jay, test, bird, b",
        '"one/002.jpg", "pâté", Training, food, c',
        "",
        "one/003.jpg, pâté, TEST, food, d",
        f"{folder / 'one' / '004.jpg'}, jay, train, bird, e",
    ]
    file = table(folder, *(row.replace(",", separator) for row in rows), encoding=encoding)
    record = import_data(file, "zoo", tmp_path)
    assert record.realms == {"bird": ["jay"], "food": ["pâté"]}
    assert contents(tmp_path / "zoo" / "train") == {
        "jay/000.jpg": b"one/000.jpg",
        "jay/004.jpg": b"one/004.jpg",
        "pâté/002.jpg": b"one/002.jpg",
    }
    assert set(contents(tmp_path / "zoo" / "test")) == {"jay/001.jpg", "pâté/003.jpg"}


def test_files_of_one_name_come_together_without_a_clash(folder: Path, tmp_path: Path) -> None:
    rows = [f"{place}/00{number}.jpg,cat" for place in ("one", "two") for number in range(4)]
    record = import_data(table(folder, "path,label", *rows), "zoo", tmp_path, test_per_class=1)
    assert record.train_images + record.test_images == 8
    found = contents(tmp_path / "zoo" / "train") | contents(tmp_path / "zoo" / "test")
    assert sorted(found.values()) == sorted(row.split(",")[0].encode() for row in rows)
    again = import_data(folder / "list.csv", "again", tmp_path, test_per_class=1)
    assert again.details["names_sha256"] == record.details["names_sha256"]


def test_all_problems_of_a_table_at_once(folder: Path, tmp_path: Path) -> None:
    (folder / "one" / "zero.jpg").touch()
    (folder / "one" / "link.jpg").symlink_to(folder / "one" / "000.jpg")
    (folder / "one" / "folder.jpg").mkdir()
    file = table(
        folder,
        "path,label,split,realm",
        "one/000.jpg,cat,train,bird",
        "two/../one/000.jpg,cat,test,bird",
        "one/link.jpg,dog,test,bird",
        "gone.jpg,cat,test,bird",
        "one/zero.jpg,cat,test,bird",
        "one/folder.jpg,cat,test,bird",
        "one/001.jpg,a/b,test,bird",
        "one/002.jpg,Cat,test,bird",
        "one/003.jpg,dog,validation,bird",
        "one/004.jpg,,train,bird",
        "one/005.jpg,dog,train",
        "list.csv,dog,train,bird",
        "two/000.jpg,cat,train,food",
    )
    with pytest.raises(ValueError, match=r"list\.csv cannot be imported") as error:
        import_data(file, "zoo", tmp_path / "root")
    message = str(error.value)
    for part in (
        "one/000.jpg is listed 3 times, in the lines 2, 3, 4",
        "not there or cannot be reached: " + str(folder / "gone.jpg"),
        "empty files: " + str(folder / "one/zero.jpg"),
        "not files: " + str(folder / "one/folder.jpg"),
        "'a/b' has '/' in it",
        "the class names Cat, cat are one folder",
        "line 10: the split is train or test, not validation",
        "line 11: no label",
        "line 12: 4 columns expected, 3 found",
        "line 13: list.csv is no image by its name",
        "the class cat is in 2 realms: bird, food",
    ):
        assert part in message
    assert not (tmp_path / "root" / "zoo").exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("file,label", r"no column path; the first line names.*Found: file, label"),
        ("a;b", r"no column path and no column label;.*Found: a, b"),
        ("", "Found: nothing"),
        ("path,label,Label", "two columns label"),
    ],
)
def test_bad_columns(folder: Path, tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        import_data(table(folder, header, *ROWS), "zoo", tmp_path, test_fraction=0.5)


def test_the_split_is_either_in_the_table_or_asked_for(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no column split; say how many.*test_fraction=0.2"):
        import_data(table(folder, "path,label", *ROWS), "zoo", tmp_path)
    file = table(folder, "path,label,split", *(f"{row},train" for row in ROWS))
    with pytest.raises(ValueError, match="there is a column split, so test_fraction"):
        import_data(file, "zoo", tmp_path, test_fraction=0.2)
    with pytest.raises(ValueError, match="classes without test images: cat, dog"):
        import_data(file, "zoo", tmp_path)
    with pytest.raises(ValueError, match="realms of a CSV file are in its column realm"):
        import_data(file, "zoo", tmp_path, realm_level=True)
    with pytest.raises(ValueError, match="it lists no images"):
        import_data(table(folder, "path,label,split"), "zoo", tmp_path)


@pytest.mark.parametrize(
    ("labels", "fine"),
    [
        (("0", "1"), True),
        (("007", "012"), True),
        (("7", "cat"), True),
        (("2", "10"), False),
        (("1.0", "2.0"), False),
        (("-1", "+1"), False),
    ],
)
def test_labels_that_are_only_numbers(
    folder: Path, tmp_path: Path, labels: tuple[str, str], fine: bool
) -> None:
    rows = [row.replace("cat", labels[0]).replace("dog", labels[1]) for row in ROWS]
    file = table(folder, "path,label", *rows)
    if fine:
        import_data(file, "zoo", tmp_path, test_fraction=0.5)
        assert sorted(path.name for path in (tmp_path / "zoo/train").iterdir()) == sorted(labels)
    else:
        with pytest.raises(ValueError, match="the labels are only numbers"):
            import_data(file, "zoo", tmp_path, test_fraction=0.5)


def test_another_encoding(folder: Path, tmp_path: Path) -> None:
    file = table(folder, "path,label", "one/000.jpg,Käse", encoding="latin-1")
    with pytest.raises(ValueError, match=r"not a text file in UTF-8.*save it as CSV UTF-8"):
        import_data(file, "zoo", tmp_path, test_fraction=0.5)


def test_very_many_problems_are_cut(folder: Path, tmp_path: Path) -> None:
    file = table(folder, "path,label", *(f"x{number}.jpg," for number in range(100)))
    with pytest.raises(ValueError, match="line 2: no label") as error:
        import_data(file, "zoo", tmp_path, test_fraction=0.5)
    assert len(str(error.value).splitlines()) == 22
    assert "and 80 problems more" in str(error.value)
