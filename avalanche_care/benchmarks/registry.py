"""The benchmarks that can be named on the command line.

A table and not a decorator: listing the benchmarks must not import what defines them.
"""

from __future__ import annotations

__all__ = ["available_benchmarks"]

_DESCRIPTIONS = {
    "folders": "your own images: a training and a test directory with one folder per class",
    "glyphs": "1,000 Unicode characters drawn from matplotlib's typefaces; nothing to download",
}


def available_benchmarks() -> dict[str, str]:
    """Name and one-line description of every benchmark, sorted by name."""
    return dict(sorted(_DESCRIPTIONS.items()))
