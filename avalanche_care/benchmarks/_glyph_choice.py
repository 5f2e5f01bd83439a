"""Which characters are the classes of the glyph benchmark, and which are left for pre-training.

Two characters are homoglyphs when, drawn in one typeface with the same size and centred, they leave
less than `MIN_UNMATCHED_INK` pixels of ink unmatched. Ink is matched when the other drawing has ink
at the same place or next to it, so a difference in position of one pixel does not count and a mark
that the other character lacks does.

The choice is shipped as `assets/glyph_characters.txt`; `choose_characters` made that file.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt

from avalanche_care.benchmarks._glyph_realms import REALMS, realm_of
from avalanche_care.benchmarks._glyph_render import GlyphRenderer, charmap, is_blank

Floats = npt.NDArray[np.float32]

TRAIN_FACES = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
)
"""Typefaces of the training images: without serifs."""

TEST_FACES = ("DejaVuSerif", "DejaVuSerif-Italic", "STIXGeneral")
"""Typefaces of the test images: with serifs; no training image and no pre-training has them."""

PRETRAIN_FACES = (
    *TRAIN_FACES,
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "STIXGeneralBol",
    "STIXGeneralItalic",
    "STIXGeneralBolIta",
)
"""Typefaces that `glyph_vit_micro` is pre-trained on (characters that are no class)."""

MIN_UNMATCHED_INK = 4.0
"""Homoglyph threshold, in fully inked pixels of a 32x32 image."""

MIN_FACE_DIFFERENCE = 0.1
"""A test typeface counts for a character only if its drawing differs by this share of the ink from
the drawing in every training typeface; symbols that DejaVu copies from one face to the next do not
measure generalisation."""


def draw_all(codes: Sequence[int], face: str) -> Floats:
    """Upright drawings of characters in one typeface, (N, 32, 32) in [0, 1].

    A character that the typeface lacks, or leaves blank, has an empty image.
    """
    renderer = GlyphRenderer()
    images = np.zeros((len(codes), 32, 32), dtype=np.float32)
    for i, code in enumerate(codes):
        if code in charmap(face):
            images[i] = renderer.draw(code, face).astype(np.float32) / 255
    return images


def unmatched_ink(a: Floats, b: Floats) -> Floats:
    """Ink of either drawing that the other has not, for all pairs.

    Args:
        a: (N, H, W) ink in [0, 1].
        b: (M, H, W) ink in [0, 1].

    Returns:
        (N, M), in fully inked pixels; infinite where one of the two drawings is empty.
    """
    ink_a, ink_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    near_a, near_b = _neighbourhood(a), _neighbourhood(b)
    total = ink_a.sum(axis=1)[:, None] + ink_b.sum(axis=1)[None, :]
    result: Floats = total - ink_a @ near_b.T - near_a @ ink_b.T
    result[ink_a.sum(axis=1) == 0, :] = np.inf
    result[:, ink_b.sum(axis=1) == 0] = np.inf
    return result


def _neighbourhood(ink: Floats) -> Floats:
    """Whether a pixel or a neighbour has ink, half-inked counts; (N, H * W) in [0, 1]."""
    n, height, width = ink.shape
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    near = ink
    for dy in range(3):
        for dx in range(3):
            near = np.maximum(near, padded[:, dy : dy + height, dx : dx + width])
    return np.minimum(1.0, 2.0 * near).reshape(n, height * width)


def own_test_faces(code: int, renderer: GlyphRenderer) -> tuple[str, ...]:
    """Test typefaces that have the character and draw it differently from all training faces."""
    present = [f for f in TEST_FACES if code in charmap(f) and not is_blank(code, f)]
    if not present:
        return ()
    train = np.stack([renderer.draw(code, face) for face in TRAIN_FACES if code in charmap(face)])
    train = train.astype(np.int32)  # (faces, 32, 32)
    result = []
    for face in present:
        image = renderer.draw(code, face).astype(np.int32)
        differing = np.abs(image - train).sum(axis=(1, 2))
        ink = np.maximum(image, train).sum(axis=(1, 2))
        if (differing >= MIN_FACE_DIFFERENCE * ink).all():
            result.append(face)
    return tuple(result)


def find_homoglyphs(
    codes: Sequence[int], others: Sequence[int], faces: Iterable[str]
) -> npt.NDArray[np.bool_]:
    """Which pairs look alike in at least one of the typefaces that both have, (N, M)."""
    alike = np.zeros((len(codes), len(others)), dtype=np.bool_)
    for face in faces:
        distance = unmatched_ink(draw_all(codes, face), draw_all(others, face))
        alike |= distance < MIN_UNMATCHED_INK
    return alike


HOMOGLYPH_FACES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSansMono", *TEST_FACES)
"""Typefaces in which pairs of characters are compared."""


def choose_characters(n_classes: int = 1000) -> tuple[int, ...]:
    """The classes of the benchmark: code points, ascending.

    Candidates are letters, digits and signs of the listed realms that all four DejaVu Sans faces
    have and at least one test typeface draws in its own way. Of homoglyphs the lowest code point
    stays. The realms then take turns, each giving its next character (letters before numbers before
    signs, then by code point), until there are enough; so small realms are there in full and large
    ones are cut.

    Args:
        n_classes: how many characters.

    Raises:
        ValueError: there are fewer candidates than asked for.
    """
    everywhere = sorted(frozenset.intersection(*(charmap(face) for face in TRAIN_FACES[:4])))
    renderer = GlyphRenderer()
    candidates = [code for code in everywhere if _is_candidate(code, renderer)]
    alike = find_homoglyphs(candidates, candidates, HOMOGLYPH_FACES)
    kept: list[int] = []
    for i in range(len(candidates)):
        if not alike[i, kept].any():
            kept.append(i)
    queues: dict[str, list[int]] = {name: [] for name, _ in REALMS}
    for code in sorted((candidates[i] for i in kept), key=_letters_first):
        queues[str(realm_of(code))].append(code)
    if len(kept) < n_classes:
        raise ValueError(
            f"{len(kept)} characters are distinct in these typefaces, {n_classes} were asked for; "
            "ask for fewer"
        )
    chosen: list[int] = []
    turn = 0
    while len(chosen) < n_classes:
        chosen += [queue[turn] for queue in queues.values() if turn < len(queue)]
        turn += 1
    return tuple(sorted(chosen[:n_classes]))


@lru_cache(maxsize=1)
def shipped_characters() -> tuple[int, ...]:
    """The 1,000 classes as shipped: code points, ascending."""
    text = (files("avalanche_care") / "assets" / "glyph_characters.txt").read_text("ascii")
    return tuple(int(line, 16) for line in text.split())


def _letters_first(code: int) -> tuple[int, int]:
    return "LN".find(unicodedata.category(chr(code))[0]) % 3, code


def _is_letter_number_or_sign(code: int) -> bool:
    """Whether the character stands by itself; modifiers and accents are small marks that look
    alike once they are centred and enlarged."""
    category = unicodedata.category(chr(code))
    return category[0] in "LNPS" and category not in ("Lm", "Sk")


def _is_candidate(code: int, renderer: GlyphRenderer) -> bool:
    return (
        realm_of(code) is not None
        and _is_letter_number_or_sign(code)
        and not any(is_blank(code, face) for face in TRAIN_FACES[:4])
        and len(own_test_faces(code, renderer)) > 0
    )


def background_characters(classes: Sequence[int]) -> tuple[int, ...]:
    """Characters for pre-training: no class, nor like one, nor like each other; ascending.

    Args:
        classes: code points of the benchmark.

    Returns:
        Code points that at least two of `PRETRAIN_FACES` have.
    """
    taken = set(classes)
    normal = {unicodedata.normalize("NFKC", chr(code)) for code in classes}
    counts: dict[int, int] = {}
    for face in PRETRAIN_FACES:
        for code in charmap(face):
            counts[code] = counts.get(code, 0) + 1
    pool = [
        code
        for code in sorted(counts)
        if counts[code] >= 2
        and code not in taken
        and _is_letter_number_or_sign(code)
        # a mathematical bold A is the A of another typeface
        and unicodedata.normalize("NFKC", chr(code)) not in normal
    ]
    faces = (*PRETRAIN_FACES, *TEST_FACES)
    pool = [code for code in pool if not _blank_somewhere(code, faces)]
    like_class = np.any(find_homoglyphs(pool, classes, faces), axis=1)
    pool = [code for code, like in zip(pool, like_class.tolist(), strict=True) if not like]
    alike = find_homoglyphs(pool, pool, HOMOGLYPH_FACES)
    kept: list[int] = []
    for i in range(len(pool)):
        if not alike[i, kept].any():
            kept.append(i)
    return tuple(pool[i] for i in kept)


def _blank_somewhere(code: int, faces: Iterable[str]) -> bool:
    return any(is_blank(code, face) for face in faces if code in charmap(face))
