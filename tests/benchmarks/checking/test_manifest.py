"""The manifest: what is written is read, whatever the names, and damage is noticed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from avalanche_care.benchmarks.checking.manifest import (
    MANIFEST_FILE,
    Manifest,
    ManifestEntry,
    sha256_of,
)

STRANGE = os.fsdecode(b"train/\xff\xfe.jpg")  # no UTF-8
NAMES = [
    "train/cat/1.jpg",
    "train/a b  c/ .png",
    "train/new\nline\r.jpg",
    "train/back\\slash\\n.jpg",
    "train/line\u2028separator\x85\x0b.jpg",
    "test/größe 猫.webp",
    STRANGE,
]
ENTRIES = {name: ManifestEntry(10 + i, 10**18 + i, f"{i:064x}") for i, name in enumerate(NAMES)}


def test_any_name_survives(tmp_path: Path) -> None:
    Manifest(ENTRIES).save(tmp_path)
    assert Manifest.load(tmp_path) == Manifest(ENTRIES)
    text = (tmp_path / MANIFEST_FILE).read_text(encoding="utf-8")
    assert text.startswith("avalanche-care manifest 1: 7 files\n")
    assert f"\n{0:064x} 10 1000000000000000000 train/cat/1.jpg\n" in text
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_FILE]


def test_a_folder_without_one(tmp_path: Path) -> None:
    assert Manifest.load(tmp_path) is None


def test_the_fingerprint_is_that_of_paths_and_contents() -> None:
    fingerprint = Manifest(ENTRIES).fingerprint
    later = {path: entry._replace(mtime_ns=1) for path, entry in reversed(ENTRIES.items())}
    assert Manifest(later).fingerprint == fingerprint
    content = ENTRIES | {NAMES[0]: ENTRIES[NAMES[0]]._replace(sha256="f" * 64)}
    renamed = {path.replace("cat", "dog"): entry for path, entry in ENTRIES.items()}
    assert len({fingerprint, *(Manifest(e).fingerprint for e in (content, renamed))}) == 3
    lines = "".join(f"{i:064x} train/{i}\n" for i in range(3))
    few = Manifest({f"train/{i}": ManifestEntry(1, 2, f"{i:064x}") for i in range(3)})
    assert few.fingerprint == hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-1],
        lambda text: text[:-20],
        lambda text: text[: text.index("\n", 40) + 1],
        lambda text: text.replace("manifest 1", "manifest 2"),
        lambda text: text.replace(" 10 ", " ten "),
        lambda text: text + text.splitlines()[1] + "\n",
        lambda text: text.replace(" 11 ", " 11"),
        lambda text: "",
        lambda text: "\xff",
    ],
)
def test_damage_is_noticed(tmp_path: Path, damage: object) -> None:
    Manifest(ENTRIES).save(tmp_path)
    file = tmp_path / MANIFEST_FILE
    text = file.read_bytes().decode("utf-8")
    file.write_bytes(damage(text).encode("latin-1", "replace"))  # type: ignore[operator]
    with pytest.raises(ValueError, match=f"{MANIFEST_FILE} is no manifest .*; remove it"):
        Manifest.load(tmp_path)


def test_sha256_of(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10_000  # more than is read at once
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
