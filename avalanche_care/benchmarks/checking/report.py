"""What a check of a data set found, in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["KINDS", "VerifyReport"]

KINDS = (
    "missing folders",
    "missing classes",
    "extra classes",
    "empty classes",
    "other counts",
    "missing images",
    "extra images",
    "unreadable files",
    "changed images",
)
"""Kinds of problems, in the order in which they are reported."""

SHOWN = 10  # problems of one kind; there may be 190,000


@dataclass(frozen=True, kw_only=True)
class VerifyReport:
    """What :func:`~avalanche_care.benchmarks.checking.verify.verify_dataset` found.

    Attributes:
        folder: The folder of the data set.
        classes: Number of classes.
        images: Part of the data set -> number of images.
        opened: How many images were opened; the others are as the manifest says.
        deep: Whether they were decoded, too.
        problems: Kind (one of ``KINDS``) -> one line each. Empty if all is well.
        notes: What else is worth knowing, in sentences.
        fingerprint: SHA-256 over the paths and contents of all images; None if it is not known.
    """

    folder: str
    classes: int
    images: Mapping[str, int]
    opened: int
    deep: bool
    problems: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    fingerprint: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def __str__(self) -> str:
        """The findings for people; of each kind the first few problems."""
        total = sum(self.images.values())
        parts = " and ".join(f"{count:,} {part}" for part, count in self.images.items())
        how = "decoded" if self.deep else "opened"
        unchanged = f", {total - self.opened:,} as in the manifest" if self.opened < total else ""
        lines = [
            f"{self.folder}: {self.classes:,} classes, {parts} images; {self.opened:,} {how}"
            f"{unchanged}"
        ]
        for kind in KINDS:
            problems = self.problems.get(kind, ())
            if problems:
                lines.append(f"{kind} ({len(problems):,}):")
                lines += [f"- {problem}" for problem in problems[:SHOWN]]
                lines += [f"- and {len(problems) - SHOWN:,} more"] * (len(problems) > SHOWN)
        lines += self.notes
        if self.fingerprint:
            lines.append(f"fingerprint: {self.fingerprint}")
        lines.append("all is well" if self.ok else "the data set is not what it should be")
        return "\n".join(lines)
