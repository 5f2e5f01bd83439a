"""The split protocol ``B{base}-Inc{increment}``: which classes arrive when."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from avalanche_care.checked import ConfigError

__all__ = ["DEFAULT_SEED", "Protocol"]

DEFAULT_SEED = 1993  # the class order of almost every published table since iCaRL


@dataclass(frozen=True)
class Protocol:
    """Which classes arrive in which task.

    ``base`` classes come first, then ``increment`` at a time; ``base=0`` means equal steps from the
    start. Where the division leaves a remainder, the last task is smaller. The order of the classes
    is ``numpy.random.RandomState(seed).permutation(n)``, as in iCaRL, PILOT, CaRE and most others.

    Args:
        base: Classes of the first task, or 0 for ``increment`` of them.
        increment: Classes of every later task.
        n_classes: Classes that the sequence uses; ``sum(sizes)``.
        class_order_seed: Seed of the permutation; None for the natural order (VTAB).
        fixed_class_order: An order in place of the permutation, with ``class_order_seed=None``:
            original class index per position.
        total_classes: Classes of the data set, if more than ``n_classes``. The permutation runs
            over all of them and its first ``n_classes`` positions are used, so that a shorter
            sequence is the beginning of the longer one.

    Raises:
        ValueError: For values that allow no split; every problem is listed.
    """

    base: int
    increment: int
    n_classes: int
    class_order_seed: int | None = DEFAULT_SEED
    fixed_class_order: tuple[int, ...] | None = None
    total_classes: int = None  # type: ignore[assignment]  # n_classes, if left out

    def __post_init__(self) -> None:
        if self.total_classes is None:
            object.__setattr__(self, "total_classes", self.n_classes)
        if self.fixed_class_order is not None:  # lists and arrays are welcome, but not kept
            object.__setattr__(self, "fixed_class_order", tuple(self.fixed_class_order))
        problems = self._split_problems() or self._order_problems()
        if problems:
            raise ConfigError("the protocol cannot be built", problems)

    def _split_problems(self) -> list[str]:
        least = {"base": 0, "increment": 1, "n_classes": 1}
        problems = [
            f"{name} must be an integer of at least {value}, got {getattr(self, name)!r}"
            for name, value in least.items()
            if not _is_int(getattr(self, name)) or getattr(self, name) < value
        ]
        seed = self.class_order_seed
        if seed is not None and not (_is_int(seed) and 0 <= seed < 2**32):
            problems.append(f"class_order_seed must be None or in [0, 2**32), got {seed!r}")
        if problems:
            return problems
        left = self.n_classes - self.base
        if left < 0:
            problems.append(f"base={self.base} is more than the {self.n_classes} classes there are")
        elif 0 < left < self.increment:
            problems.append(
                f"increment={self.increment} is more than the {left} classes left after base="
                f"{self.base} of {self.n_classes}; choose an increment of at most {left}"
            )
        if not _is_int(self.total_classes) or self.total_classes < self.n_classes:
            problems.append(
                f"total_classes must be an integer of at least n_classes={self.n_classes}, got "
                f"{self.total_classes!r}"
            )
        return problems

    def _order_problems(self) -> list[str]:
        order, total = self.fixed_class_order, self.total_classes
        if order is None:
            return []
        problems = []
        if self.class_order_seed is not None:
            problems.append(
                "fixed_class_order leaves nothing to permute: pass class_order_seed=None with it, "
                f"got {self.class_order_seed}"
            )
        if len(order) not in (self.n_classes, total):
            expected = str(total) if self.n_classes == total else f"{self.n_classes} or {total}"
            problems.append(f"fixed_class_order must have {expected} entries, got {len(order)}")
        strange = [c for c in order if not _is_int(c) or not 0 <= c < total]
        if strange:
            problems.append(
                f"fixed_class_order must hold integers in [0, {total}), got {strange[:5]}"
            )
        elif len(set(order)) < len(order):
            twice = [c for c, times in Counter(order).items() if times > 1]
            problems.append(
                f"fixed_class_order must name each class once; more than once: {twice[:5]}"
            )
        return problems

    @classmethod
    def parse(
        cls,
        name: str,
        *,
        n_classes: int,
        class_order_seed: int | None = DEFAULT_SEED,
        fixed_class_order: Sequence[int] | None = None,
        total_classes: int | None = None,
    ) -> Protocol:
        """Build the protocol from its name in the papers.

        Args:
            name: ``B{base}-Inc{increment}``, for example ``"B100-Inc3"``.
            n_classes, class_order_seed, fixed_class_order, total_classes: As in the class.

        Returns:
            The protocol.

        Raises:
            ValueError: If the name does not have that form, or the values allow no split.

        Example:
            >>> Protocol.parse("B0-Inc4", n_classes=10).sizes
            (4, 4, 2)
        """
        match = re.fullmatch(r"B(\d+)-Inc(\d+)", name) if isinstance(name, str) else None
        if match is None:
            raise ValueError(
                f"a protocol is written B{{base}}-Inc{{increment}}, for example 'B0-Inc10' or "
                f"'B100-Inc3'; got {name!r}"
            )
        base, increment = (int(number) for number in match.groups())
        return cls(
            base,
            increment,
            n_classes,
            class_order_seed,
            fixed_class_order,  # type: ignore[arg-type]  # made a tuple
            total_classes,  # type: ignore[arg-type]
        )

    @cached_property
    def class_order(self) -> tuple[int, ...]:
        """Original class index of each position, ``n_classes`` of them."""
        if self.fixed_class_order is not None:
            order = [int(c) for c in self.fixed_class_order]
        elif self.class_order_seed is not None:
            random = np.random.RandomState(self.class_order_seed)
            order = random.permutation(self.total_classes).tolist()
        else:
            order = list(range(self.total_classes))
        return tuple(order[: self.n_classes])

    @property
    def name(self) -> str:
        """The name in the papers, for example ``"B100-Inc3"``."""
        return f"B{self.base}-Inc{self.increment}"

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of classes of each task; the last may be a remainder."""
        first = [self.base] if self.base else []
        steps, remainder = divmod(self.n_classes - self.base, self.increment)
        return tuple(first + [self.increment] * steps + ([remainder] if remainder else []))

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.sizes)

    def classes_of(self, task: int) -> range:
        """Labels (positions in the class order) that arrive in ``task``, counted from 0."""
        if not 0 <= task < self.tasks:
            raise IndexError(f"{self.name} has tasks 0 to {self.tasks - 1}, got {task}")
        start = sum(self.sizes[:task])
        return range(start, start + self.sizes[task])


def _is_int(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
