"""Realms of the glyph benchmark: Unicode blocks, small related ones together.

Python's `unicodedata` does not know blocks; the ranges are those of the Unicode standard's
`Blocks.txt`. Blocks that the typefaces do not cover are not listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

REALMS: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("Basic Latin", ((0x0000, 0x007F),)),
    ("Latin-1 Supplement", ((0x0080, 0x00FF),)),
    ("Latin Extended-A", ((0x0100, 0x017F),)),
    ("Latin Extended-B", ((0x0180, 0x024F),)),
    ("IPA Extensions", ((0x0250, 0x02AF),)),
    ("Greek and Coptic", ((0x0370, 0x03FF),)),
    ("Cyrillic", ((0x0400, 0x052F), (0x1C80, 0x1C8F), (0x2DE0, 0x2DFF), (0xA640, 0xA69F))),
    ("Armenian", ((0x0530, 0x058F), (0xFB13, 0xFB17))),
    ("Georgian", ((0x10A0, 0x10FF), (0x1C90, 0x1CBF), (0x2D00, 0x2D2F))),
    ("Phonetic Extensions", ((0x1D00, 0x1DBF),)),
    ("Latin Extended Additional", ((0x1E00, 0x1EFF),)),
    ("Greek Extended", ((0x1F00, 0x1FFF),)),
    ("General Punctuation", ((0x2000, 0x206F), (0x2E00, 0x2E7F))),
    ("Superscripts, Subscripts and Number Forms", ((0x2070, 0x209F), (0x2150, 0x218F))),
    ("Currency Symbols", ((0x20A0, 0x20CF),)),
    ("Letterlike Symbols", ((0x2100, 0x214F),)),
    ("Arrows", ((0x2190, 0x21FF), (0x27F0, 0x27FF), (0x2900, 0x297F), (0x2B00, 0x2BFF))),
    ("Mathematical Operators", ((0x2200, 0x22FF), (0x27C0, 0x27EF), (0x2980, 0x2AFF))),
    ("Technical and Enclosed Symbols", ((0x2300, 0x24FF),)),
    ("Box Drawing and Geometric Shapes", ((0x2500, 0x25FF),)),
    ("Miscellaneous Symbols and Dingbats", ((0x2600, 0x27BF),)),
    ("Latin Extended-C and -D", ((0x2C60, 0x2C7F), (0xA720, 0xA7FF))),
)
"""Name, and ranges of code points with both ends included."""


def realm_of(code: int) -> str | None:
    """The realm (Unicode block, or a group of small related blocks) of a code point, if listed."""
    for name, ranges in REALMS:
        if any(first <= code <= last for first, last in ranges):
            return name
    return None


def realms(classes: Sequence[int]) -> Mapping[str, tuple[int, ...]]:
    """Realm name to the class indices in it, for code points in class order."""
    groups: dict[str, list[int]] = {}
    for index, code in enumerate(classes):
        groups.setdefault(str(realm_of(code)), []).append(index)
    return {name: tuple(members) for name, members in groups.items()}
