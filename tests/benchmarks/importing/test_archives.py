"""Archives: which files are one, and that a hostile one does no harm."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import struct
import tarfile
import zipfile
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from layouts import Files, read_tree, split_bytes, tar_bytes, write_tree, zip_bytes

from avalanche_care.benchmarks.importing import extract as extracting
from avalanche_care.benchmarks.importing import staging
from avalanche_care.benchmarks.importing.archives import (
    Archive,
    UnsafeArchiveError,
    find_archives,
)
from avalanche_care.benchmarks.importing.extract import extract

FILES = {"a/0.jpg": b"zero" * 300, "a/1.jpg": b"", "b/c/2.txt": os.urandom(5000)}


def only(folder: Path) -> Archive:
    (archive,) = find_archives(path for path in folder.iterdir() if path.is_file())
    return archive


def stored(tmp_path: Path, data: bytes, name: str = "x") -> Archive:
    return only(write_tree(tmp_path / "in", {name: data}))


# ------------------------------------------------------------------ finding


KINDS = {
    "zip": zip_bytes(FILES),
    "tar": tar_bytes(FILES),
    "tar.gz": tar_bytes(FILES, "gz"),
    "tar.bz2": tar_bytes(FILES, "bz2"),
    "tar.xz": tar_bytes(FILES, "xz"),
}


@pytest.mark.parametrize("name", ["x", "x.txt", "x.zip", "x.tar.gz"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_content_decides(tmp_path: Path, kind: str, name: str) -> None:
    archive = stored(tmp_path, KINDS[kind], name)
    assert (archive.kind, archive.name) == (kind, name)
    assert archive.stem == ("x.txt" if name == "x.txt" else "x")
    assert archive.size == len(KINDS[kind])
    assert extract(archive, tmp_path / "out") == tmp_path / "out"
    assert read_tree(tmp_path / "out") == FILES


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        bytes(2000),  # a tar that is empty
        gzip.compress(b"text" * 500, mtime=0),  # the time would be part of the test's name
        b"\x1f\x8b broken",
        b"BZh broken",
        b"\xff\xd8\xff" + bytes(600),
        tar_bytes(FILES)[:100],
    ],
)
def test_what_is_no_archive(tmp_path: Path, data: bytes) -> None:
    write_tree(tmp_path, {"x.tar.gz": data, "x.zip": data})
    assert find_archives(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("rar", b"Rar!\x1a\x07\x01\x00"),
        ("7z", b"7z\xbc\xaf\x27\x1c\x00\x04"),
        ("zstd", b"\x28\xb5\x2f\xfd\x04\x00"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, kind: str, data: bytes) -> None:
    archive = stored(tmp_path, data)
    with pytest.raises(ValueError, match=f"is a {kind} archive, which cannot be read here; unpack"):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "names",
    [
        ["x.tar.part00", "x.tar.part01", "x.tar.part02"],
        ["x.tar.part-1", "x.tar.part-2", "x.tar.part-3"],
        ["x.tar.aa", "x.tar.ab", "x.tar.ac"],
        ["x.taraa", "x.tarab", "x.tarac"],
        ["x.tar.aaa", "x.tar.aab", "x.tar.aac"],
        ["x.tar_001", "x.tar_002", "x.tar_003"],
        [f"x.tar.{k}" for k in range(1, 13)],
        [f"x.tar.a{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"] + ["x.tar.ba"],
        ["x.part1.tar", "x.part2.tar"],
        ["x-00", "x-01", "x-02"],
    ],
)
@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_parts_are_put_together(tmp_path: Path, names: list[str], kind: str) -> None:
    """In their order, which is not that of their names for 1, 2, ..., 10."""
    source = write_tree(tmp_path / "in", split_bytes(KINDS[kind], names))
    archive = only(source)
    assert [path.name for path in archive.parts] == names
    assert archive.kind == kind
    assert archive.stem == "x"
    extract(archive, tmp_path / "out")
    assert read_tree(tmp_path / "out") == FILES
    assert f"with {len(names) - 1} more parts" in str(archive)


def test_complete_archives_with_numbers_stay_apart(tmp_path: Path) -> None:
    files = {f"s-{k}.tar": tar_bytes({f"{k}.jpg": b"x"}) for k in range(3)}
    files |= {"a0": zip_bytes({"a": b""}), "a1": tar_bytes(FILES), "x.tar": tar_bytes(FILES)}
    write_tree(tmp_path, files | {"b.aa": b"text", "b.ab": b"text", "0001": b"1", "0002": b"2"})
    found = find_archives(tmp_path.iterdir())
    assert [archive.name for archive in found] == sorted(files)
    assert {len(archive.parts) for archive in found} == {1}


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (["x.tar.0", "x.tar.1", "x.tar.2"], 1),
        (["x.tar.001", "x.tar.002"], 0),
        (["x.tar.aa", "x.tar.ab", "x.tar.ac"], 0),
        (["x.tar.aa", "x.tar.ab", "x.tar.ac"], 1),
    ],
)
def test_a_missing_part_is_noticed(tmp_path: Path, names: list[str], lost: int) -> None:
    write_tree(tmp_path, split_bytes(KINDS["tar"], names))
    (tmp_path / names[lost]).unlink()
    with pytest.raises(ValueError, match=r"is a part of x.tar, and others are missing"):
        find_archives(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_a_missing_last_part_is_noticed_too(tmp_path: Path, kind: str) -> None:
    names = ["x.tar.aa", "x.tar.ab", "x.tar.ac"]
    source = write_tree(tmp_path / "in", split_bytes(KINDS[kind], names))
    (source / "x.tar.ac").unlink()
    with pytest.raises(ValueError, match="is damaged or cut short"):
        extract(only(source), tmp_path / "out")


# ------------------------------------------------------------------ damage


def cut_anywhere(data: bytes) -> list[int]:
    return sorted({*range(600, len(data), 512), *range(601, len(data), 733)})


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_anywhere_it_is_an_error(tmp_path: Path, kind: str) -> None:
    """Also at the end of a file, where Python's tarfile sees a good end; padding may be missing."""
    content = {f"{k}.jpg": bytes([k]) * 700 for k in range(4)} if kind == "tar" else FILES
    data = {"tar": tar_bytes(content)}.get(kind, KINDS[kind])
    # after 4 x (header, two blocks) comes the end, of which any rest is padding
    cuts = [cut for cut in cut_anywhere(data) if kind != "tar" or cut < 4 * 3 * 512 + 512]
    assert cuts
    for cut in cuts:
        with pytest.raises(ValueError, match=r"is damaged or cut short .*get it again"):
            extract(stored(tmp_path, data[:cut]), tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_a_flipped_byte(tmp_path: Path) -> None:
    data = bytearray(tar_bytes(FILES))
    data[512 + 1536 + 30] ^= 1  # in the second header: tarfile would end there, without a word
    with pytest.raises(ValueError, match="damaged"):
        extract(stored(tmp_path, bytes(data)), tmp_path / "out")
    data = bytearray(zip_bytes(FILES))
    data[len(data) // 2] ^= 1
    with pytest.raises(ValueError, match="damaged"):
        extract(stored(tmp_path, bytes(data)), tmp_path / "out")


def test_archives_written_behind_each_other(tmp_path: Path) -> None:
    """Python's tarfile would read the first and be content."""
    with pytest.raises(ValueError, match="something comes after its end"):
        extract(stored(tmp_path, tar_bytes(FILES) * 2), tmp_path / "out")


def test_encrypted(tmp_path: Path) -> None:
    data = bytearray(zip_bytes({"a.jpg": b"secret"}))
    data[6] |= 1  # the flag, in the local and in the central header
    data[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ValueError, match=r"is encrypted \(a.jpg\); unpack it with its password"):
        extract(stored(tmp_path, bytes(data)), tmp_path / "out")


def test_an_unknown_compression(tmp_path: Path) -> None:
    data = bytearray(zip_bytes({"a.jpg": b"x" * 99}))
    for place in (8, data.index(b"PK\x01\x02") + 10):
        data[place : place + 2] = struct.pack("<H", 9)  # Deflate64, which Windows writes
    with pytest.raises(ValueError, match="compressed in a way that Python cannot read"):
        extract(stored(tmp_path, bytes(data)), tmp_path / "out")


# ------------------------------------------------------------------ hostile


def tar_of(*members: tuple[str, bytes, str] | tarfile.TarInfo) -> bytes:
    """A tar of (name, type, link) entries; plain files have the content "!"."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, link in members:  # type: ignore[misc]
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            info.size = 1 if kind == tarfile.REGTYPE else 0
            archive.addfile(info, io.BytesIO(b"!"))
    return out.getvalue()


def zip_of(*members: tuple[str, int]) -> bytes:
    """A zip of (name, mode) entries, whose content is a path that leads out."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, mode in members:
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr, info.create_system = name, mode << 16, 3
            archive.writestr(info, "../../victim")
    return out.getvalue()


FILE, LINK, HARD = tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
NAMES = ("../evil", "a/../../evil", "/tmp/evil", "..\\evil", "C:\\evil", "C:evil", "//host/evil")
HOSTILE: dict[str, tuple[bytes, str]] = {
    **{f"tar {name}": (tar_of((name, FILE, "")), "name|leads out") for name in NAMES},
    **{f"zip {name}": (zip_of((name, 0)), "name|leads out") for name in NAMES},
    "hidden traversal": (tar_of(("../.evil", FILE, "")), "leads out"),
    "zip zero byte": (zip_of(("a\0/../../evil", 0)), "broken name"),
    "tar symlink": (tar_of(("a", LINK, "/etc/passwd")), "is a symbolic link"),
    "tar inner symlink": (tar_of(("a", LINK, "b"), ("b", FILE, "")), "is a symbolic link"),
    "tar through a symlink": (tar_of(("a", LINK, ".."), ("a/evil", FILE, "")), "symbolic link"),
    "hidden symlink": (tar_of((".a", LINK, "..")), "symbolic link"),
    "zip symlink": (zip_of(("a", 0o120777)), "is a symbolic link"),
    "zip fifo": (zip_of(("a", 0o010666)), "is a device"),
    "tar hard link out": (tar_of(("a", HARD, "../victim")), "leads out"),
    "tar hard link absolute": (tar_of(("a", HARD, "/etc/passwd")), "absolute"),
    "tar hard link to nothing": (tar_of(("a", HARD, "b")), "no earlier file"),
    "tar hard link to a folder": (
        tar_of(("d", tarfile.DIRTYPE, ""), ("a", HARD, "d")),
        "no earlier file",
    ),
    "tar fifo": (tar_of(("a", tarfile.FIFOTYPE, "")), "is a pipe"),
    "tar char device": (tar_of(("a", tarfile.CHRTYPE, "")), "is a device"),
    "tar block device": (tar_of(("a", tarfile.BLKTYPE, "")), "is a device"),
    "twice in a tar": (tar_of(("a", FILE, ""), ("./a", FILE, "")), "is there twice"),
    "twice in a zip": (zip_of(("a/b", 0), ("a//b", 0)), "is there twice"),
    "a link over a file": (tar_of(("a", FILE, ""), ("a", HARD, "a")), "is there twice"),
    "file, then folder": (tar_of(("a", FILE, ""), ("a/b", FILE, "")), "needs the folder a, which"),
    "folder, then file": (tar_of(("a/b", FILE, ""), ("a", FILE, "")), "is there twice"),
    "far down": (tar_of(("a/" * 1500 + "b", FILE, "")), "more than 50 folders deep"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_archives_are_refused_and_leave_nothing(tmp_path: Path, name: str) -> None:
    data, problem = HOSTILE[name]
    (tmp_path / "victim").write_text("untouched")
    archive = stored(tmp_path, data)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UnsafeArchiveError, match=f"is not extracted: .*({problem})"):
        extract(archive, tmp_path / "deep" / "out")
    assert (tmp_path / "victim").read_text() == "untouched"
    new = set(tmp_path.rglob("*")) - before
    allowed = tmp_path / "deep"
    assert all(path == allowed or allowed in path.parents for path in new)
    assert not any(path.is_symlink() or path.is_fifo() for path in new)
    assert not any("evil" in path.name for path in new)
    assert not (allowed / "out").exists()


def sparse_tar() -> bytes:
    """A file of a terabyte in one block, as GNU tar writes holes."""
    info = tarfile.TarInfo("hole.jpg")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386:398], header[398:410] = b"00000000000\0", b"00000000000\0"
    header[483:495] = b"%011o\0" % (2**32)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + bytes(1024)


def header_bomb() -> bytes:
    """A header that says of itself that it is as long as the memory."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 7 * 2**30
    return gzip.compress(info.tobuf() + bytes(1 << 20))


def header_chain() -> bytes:
    """Headers of headers of headers ..."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2
    return (info.tobuf() + b"a" + bytes(511)) * 3000


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (sparse_tar, "is a sparse file"),
        (header_bomb, "7,516,192,768 bytes long"),
        (header_chain, "damaged"),
    ],
)
def test_headers_that_lie(tmp_path: Path, make: Callable[[], bytes], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        extract(stored(tmp_path, make()), tmp_path / "out")


@pytest.fixture
def small_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A disk of 2 MB beyond what is to stay free."""
    usage = namedtuple("usage", "total used free")
    size = 2_000_000

    def left(path: object) -> usage:
        used = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
        return usage(size, used, size - used)

    monkeypatch.setattr(extracting, "SPARE", 0)
    monkeypatch.setattr(staging.shutil, "disk_usage", left)
    return size


@pytest.mark.parametrize("pack", [zip_bytes, lambda files: tar_bytes(files, "gz")])
def test_a_bomb_stops_before_the_disk_is_full(
    tmp_path: Path, small_disk: int, pack: Callable[[Files], bytes]
) -> None:
    archive = stored(tmp_path, pack({f"{k}.jpg": bytes(300_000) for k in range(30)}))
    assert archive.size < 20_000
    with pytest.raises(OSError, match="make room"):
        extract(archive, tmp_path / "out")
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) <= small_disk
    assert not (tmp_path / "out").exists()


def test_no_more_is_written_than_announced(tmp_path: Path, small_disk: int) -> None:
    """A zip whose directory says 10 bytes of what unpacks to ten million."""
    data = bytearray(zip_bytes({"a.jpg": bytes(10**7)}))
    for place in (22, data.index(b"PK\x01\x02") + 24):
        data[place : place + 4] = struct.pack("<I", 10)
    with pytest.raises(ValueError, match="damaged"):
        extract(stored(tmp_path, bytes(data)), tmp_path / "out")
    assert sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file()) < 20_000


# ------------------------------------------------------------------ what is written


def test_only_plain_files_with_plain_permissions(tmp_path: Path) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, kind, mode in (("d", tarfile.DIRTYPE, 0), ("d/a", FILE, 0o6777), ("b", FILE, 0)):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.uid = kind, mode, int(kind == FILE), 12345
            archive.addfile(info, io.BytesIO(b"!"))
        info = tarfile.TarInfo("d/again")
        info.type, info.linkname = HARD, "d/a"
        archive.addfile(info)
    extract(stored(tmp_path, out.getvalue()), tmp_path / "out")
    assert read_tree(tmp_path / "out") == {"d/a": b"!", "d/again": b"!", "b": b"!"}
    umask = os.umask(0)
    os.umask(umask)
    for name in ("d/a", "b"):
        status = (tmp_path / "out" / name).stat()
        assert (status.st_mode & 0o7777, status.st_uid) == (0o666 & ~umask, os.getuid())


def test_hidden_files_are_left_out(tmp_path: Path) -> None:
    extra = {"__MACOSX/a/._0.jpg": b"", "a/.DS_Store": b"", ".git/x": b"", "Thumbs.db": b""}
    extract(stored(tmp_path, zip_bytes(extra | FILES)), tmp_path / "out")
    assert read_tree(tmp_path / "out") == FILES


def test_names_of_other_systems_and_languages(tmp_path: Path) -> None:
    files = {"vögel/鳥 1.jpg": b"1", "a b/c'd.jpg": b"2"}
    for pack in (zip_bytes, tar_bytes):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        extract(stored(tmp_path, pack(files)), tmp_path / "out")
        assert read_tree(tmp_path / "out") == files
    shutil.rmtree(tmp_path / "out")
    extract(stored(tmp_path, tar_bytes({"train\\ant\\0.jpg": b"1"})), tmp_path / "out")
    assert read_tree(tmp_path / "out") == {"train/ant/0.jpg": b"1"}


def test_a_disk_that_ignores_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = stored(tmp_path, zip_bytes({"Crane/0.jpg": b"1", "crane/1.jpg": b"2"}))
    extract(archive, tmp_path / "both")
    assert len(read_tree(tmp_path / "both")) == 2
    monkeypatch.setattr(extracting, "ignores_case", lambda folder: True)
    with pytest.raises(UnsafeArchiveError, match="differs from Crane only in case"):
        extract(archive, tmp_path / "out")


def test_a_stopped_extraction_starts_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = stored(tmp_path, KINDS["zip"])
    copy = extracting._Writer._copy

    def broken(self: object, member: object, out: io.BytesIO) -> None:
        out.write(b"half of")
        raise KeyboardInterrupt

    monkeypatch.setattr(extracting._Writer, "_copy", broken)
    with pytest.raises(KeyboardInterrupt):
        extract(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(extracting._Writer, "_copy", copy)
    extract(archive, tmp_path / "out")
    assert read_tree(tmp_path / "out") == FILES
    with pytest.raises(FileExistsError, match="is there already"):
        extract(archive, tmp_path / "out")
