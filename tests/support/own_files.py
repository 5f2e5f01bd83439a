"""Files as a user might have them, and what an import made of them. They hold no real images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path


def write_files(folder: Path, classes: Mapping[str, Iterable[str]]) -> dict[str, bytes]:
    """Write <folder>/<class>/<file>; each file's content is its own path below the folder."""
    contents = {}
    for name, files in classes.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for file in files:
            contents[f"{name}/{file}"] = f"{name}/{file}".encode()
            (folder / name / file).write_bytes(contents[f"{name}/{file}"])
    return contents


def numbered(count: int, suffix: str = ".jpg") -> list[str]:
    """Names of image files."""
    return [f"{number:03d}{suffix}" for number in range(count)]


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Relative path -> content and time of every file below a folder; nothing of what is not."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> content of every visible file below a folder."""
    return {path: content for path, (content, _) in snapshot(folder).items()}
