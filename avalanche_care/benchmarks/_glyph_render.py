"""Draws single characters from the typefaces that matplotlib ships.

Outlines are read in font units (no hinting, no scaling), so the FreeType version has no say in
them. Curves are flattened here with a fixed number of steps and every point is rounded to 1/256
pixel before matplotlib's Agg fills the polygon with integer arithmetic: the same outline gives the
same bytes on every machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import ft2font
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.path import Path
from matplotlib.transforms import IdentityTransform

Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]

IMAGE_SIZE = 32
"""Height and width of an image in pixels."""

GLYPH_SIZE = 24.0
"""Longer side of a glyph's bounding box in pixels, before a variant's scale."""

_CURVE_STEPS = 6  # straight pieces per quadratic curve: under 0.05 pixel of error at this size
_SUBPIXEL = 256.0  # Agg's own grid

_ft2font: Any = ft2font  # for what only older versions of matplotlib have

_T = np.arange(1, _CURVE_STEPS + 1)[:, None] / _CURVE_STEPS  # (steps, 1)
_STEPS = ((1 - _T) ** 2, 2 * _T * (1 - _T), _T**2)  # weights of start, control and end point


@dataclass(frozen=True)
class Pose:
    """How one image differs from the upright, centred glyph.

    Args:
        rotation: degrees, counter-clockwise.
        scale: factor on the size of the glyph.
        shear: horizontal shift per unit of height.
        stretch: horizontal factor.
        shift: right and down, in pixels.
    """

    rotation: float = 0.0
    scale: float = 1.0
    shear: float = 0.0
    stretch: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)


UPRIGHT = Pose()


@lru_cache(maxsize=32)
def _face(face: str) -> Any:
    path = FilePath(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf"
    if not path.is_file():
        raise FileNotFoundError(
            f"the typeface {face} is not among matplotlib's fonts (looked for {path}); "
            f"matplotlib {matplotlib.__version__} seems to be installed without its data"
        )
    if matplotlib.__version_info__ < (3, 11):
        # By default these versions squeeze the outline horizontally for their own hinting.
        return _ft2font.FT2Font(str(path), hinting_factor=1)
    return ft2font.FT2Font(str(path))


@lru_cache(maxsize=32)
def charmap(face: str) -> frozenset[int]:
    """Code points that a typeface has a glyph for; any other would be drawn as its .notdef box."""
    return frozenset(code for code, glyph in _face(face).get_charmap().items() if glyph != 0)


def _load_flags() -> Any:
    if matplotlib.__version_info__ < (3, 10):
        return _ft2font.LOAD_NO_SCALE | _ft2font.LOAD_NO_HINTING
    return ft2font.LoadFlags.NO_SCALE | ft2font.LoadFlags.NO_HINTING


def _flatten(vertices: Points, codes: Codes) -> tuple[Points, Codes]:
    """An outline of lines and quadratic curves as closed polygons; (P, 2) points, (P,) codes."""
    known = np.isin(codes, (Path.MOVETO, Path.LINETO, Path.CURVE3, Path.CLOSEPOLY))
    if not known.all():
        raise ValueError(f"a TrueType outline has no path codes {set(codes[~known].tolist())}")
    control = np.flatnonzero(codes == Path.CURVE3)[::2]  # then comes the end point; (C,)
    copies = np.ones(len(codes), dtype=np.int64)
    copies[control], copies[control + 1] = _CURVE_STEPS, 0
    points, kinds = np.repeat(vertices, copies, axis=0), np.repeat(codes, copies)  # (P, 2), (P,)
    curved = kinds == Path.CURVE3
    ends = (vertices[control - 1], vertices[control], vertices[control + 1])
    pieces = sum(w * p[:, None] for w, p in zip(_STEPS, ends, strict=True))  # (C, steps, 2)
    points[curved] = np.reshape(pieces, (-1, 2))
    kinds[curved] = Path.LINETO
    return points, kinds


@lru_cache(maxsize=32768)
def _outline(code: int, face: str) -> tuple[Points, Codes]:
    """Polygons with the bounding box centred on 0 and its longer side 1, y pointing up."""
    font = _face(face)
    font.load_char(code, flags=_load_flags())
    vertices, codes = font.get_path()
    points, kinds = _flatten(np.asarray(vertices, dtype=np.float64), np.asarray(codes, np.uint8))
    # Some outlines carry anchors: contours of one or two points that have no ink but would count
    # in the bounding box. A contour is its points and one CLOSEPOLY.
    contour = np.cumsum(kinds == Path.MOVETO)
    inked = np.bincount(contour, minlength=1)[contour] > 3
    points, kinds = points[inked], kinds[inked]
    drawn = points[kinds != Path.CLOSEPOLY]
    if len(drawn) == 0:
        return points, kinds
    low, high = drawn.min(axis=0), drawn.max(axis=0)
    return (points - (low + high) / 2) / float((high - low).max()), kinds


def is_blank(code: int, face: str) -> bool:
    """Whether the glyph has no ink (spaces, joiners)."""
    return len(_outline(code, face)[0]) == 0


class GlyphRenderer:
    """Draws characters as grey images; one object per process, not shared between threads."""

    def __init__(self) -> None:
        self._agg = RendererAgg(IMAGE_SIZE, IMAGE_SIZE, 72)
        self._gc = self._agg.new_gc()
        self._gc.set_snap(False)
        self._gc.set_linewidth(0)
        self._identity = IdentityTransform()

    def draw(self, code: int, face: str, pose: Pose = UPRIGHT) -> Image:
        """One image of a character.

        Args:
            code: Unicode code point; must be in `charmap(face)`.
            face: name of a typeface file of matplotlib without `.ttf`.
            pose: rotation, scale, shear and shift.

        Returns:
            (32, 32) uint8, ink 255 on 0.

        Raises:
            ValueError: the typeface lacks the character.
        """
        if code not in charmap(face):
            raise ValueError(f"{face} has no glyph for U+{code:04X}; choose another typeface")
        points, codes = _outline(code, face)
        angle = math.radians(pose.rotation)
        size = GLYPH_SIZE * pose.scale
        cos, sin = size * math.cos(angle), size * math.sin(angle)
        right, down = pose.shift
        y = points[:, 1]  # (P,)
        x = pose.stretch * points[:, 0] + pose.shear * y
        moved = np.empty_like(points)
        moved[:, 0] = cos * x - sin * y + (IMAGE_SIZE / 2 + right)
        moved[:, 1] = sin * x + cos * y + (IMAGE_SIZE / 2 - down)
        path = Path(np.round(moved * _SUBPIXEL) / _SUBPIXEL, codes)
        self._agg.clear()
        self._agg.draw_path(self._gc, path, self._identity, (0.0, 0.0, 0.0))
        return np.asarray(self._agg.buffer_rgba())[..., 3].copy()
