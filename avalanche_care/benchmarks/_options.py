"""The options that the named benchmarks share, and the split that they ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from avalanche_care.benchmarks._cache import data_root
from avalanche_care.benchmarks.protocol import DEFAULT_SEED, Protocol
from avalanche_care.checked import ConfigError

__all__ = ["BenchmarkOptions", "Settings"]

Location = str | os.PathLike[str]


class BenchmarkOptions(TypedDict, total=False):
    """Keyword arguments of every ``Split<Name>``, of ``OmniBenchmark1K`` and ``load_benchmark``.

    Attributes:
        root: Directory of the data sets, each a folder below it. Left out: the environment variable
            ``AVALANCHE_CARE_DATA``, else ``~/.avalanche_care/data``.
        download: Fetch the data set if it is not there.
        packed: Read ``train.pack`` and ``test.pack``, which lie beside the folders ``train`` and
            ``test``, in place of these.
        transforms: Name of a family, see :func:`transform_family`. ``"care"`` if left out.
        image_size: Side of the square that the network sees, in pixels. 224 if left out.
        train_transform, eval_transform: From an RGB PIL image to a tensor, in place of the
            family's.
        cache_eval: As in :func:`benchmark_from_folders`.
        n_classes: Use only the beginning of the class order, this many classes.
        class_order_seed: Seed of the class order; None for the sorted order. ``"published"``, which
            it is if left out: that of the papers with these transforms, 1993 almost always.
        fixed_class_order: The order itself: original class index per position.
        realms: Groups of classes, by which accuracy is broken down: realm -> names of its class
            folders, or a file that :func:`read_realms` reads. Left out: what the data set's own
            record says.
        n_experiences: Avalanche's name for equal tasks, in place of a protocol; it must divide the
            number of classes.
        seed: Avalanche's name for ``class_order_seed``. Avalanche permutes with another generator,
            so its order for this seed is another one.
        shuffle: False is Avalanche's way to say ``class_order_seed=None``.
        dataset_root: Avalanche's name for ``root``.
        return_task_id: Only False: task labels are all 0.
        class_ids_from_zero_from_first_exp: Only True: labels are positions in the class order.
        class_ids_from_zero_in_each_exp: Only False, for the same reason.
    """

    root: Location | None
    download: bool
    packed: bool
    transforms: str
    image_size: int
    train_transform: Any
    eval_transform: Any
    cache_eval: bool | str | Path
    n_classes: int | None
    class_order_seed: int | Literal["published"] | None
    fixed_class_order: Sequence[int] | None
    realms: Mapping[str, Sequence[str]] | Location | None
    n_experiences: int | None
    seed: int | None
    shuffle: bool | None
    dataset_root: Location | None
    return_task_id: bool
    class_ids_from_zero_from_first_exp: bool
    class_ids_from_zero_in_each_exp: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The same with their defaults; contradictions are refused, every one of them listed."""

    root: Location | None = None
    download: bool = False
    packed: bool = False
    transforms: str = "care"
    image_size: int = 224
    train_transform: Any = None
    eval_transform: Any = None
    cache_eval: bool | str | Path = False
    n_classes: int | None = None
    class_order_seed: int | Literal["published"] | None = "published"
    fixed_class_order: Sequence[int] | None = None
    realms: Mapping[str, Sequence[str]] | Location | None = None
    n_experiences: int | None = None
    seed: int | None = None
    shuffle: bool | None = None
    dataset_root: Location | None = None
    return_task_id: bool = False
    class_ids_from_zero_from_first_exp: bool = True
    class_ids_from_zero_in_each_exp: bool = False

    def __post_init__(self) -> None:
        problems = self._order_problems() + self._label_problems()
        if self.root is not None and self.dataset_root is not None:
            problems.append("root and dataset_root are the same thing; leave one of the two out")
        if self.cache_eval and self.eval_transform is not None:
            problems.append(
                "cache_eval keeps what the default evaluation transform crops, so it cannot be "
                "used with an eval_transform; leave one of the two out"
            )
        if problems:
            raise ConfigError("the options contradict each other", problems)

    @property
    def order_given(self) -> tuple[str, ...]:
        """Names of the options that say what the class order is."""
        given = {
            "class_order_seed": self.class_order_seed != "published",
            "seed": self.seed is not None,
            "fixed_class_order": self.fixed_class_order is not None,
            "shuffle": self.shuffle is not None,
        }
        return tuple(name for name, is_given in given.items() if is_given)

    def _order_problems(self) -> list[str]:
        given = set(self.order_given) - {"shuffle"}
        if len(given) > 1:
            return [f"{' and '.join(sorted(given))} each say what the class order is; keep one"]
        seeded = self.seed is not None or isinstance(self.class_order_seed, int)
        if self.shuffle is not None and given and self.shuffle is not seeded:
            return [f"shuffle={self.shuffle} contradicts {given.pop()}; leave one of the two out"]
        return []

    def _label_problems(self) -> list[str]:
        why = "; the labels are positions in the class order, and the task labels are all 0"
        wanted = {
            "return_task_id": False,
            "class_ids_from_zero_from_first_exp": True,
            "class_ids_from_zero_in_each_exp": False,
        }
        return [
            f"{name} must be {value} in class-incremental learning{why}"
            for name, value in wanted.items()
            if getattr(self, name) is not value
        ]

    @property
    def data_root(self) -> Path:
        """The directory of the data sets."""
        return data_root(self.root or self.dataset_root)

    def split(
        self,
        protocol: str | int | Protocol | None,
        *,
        title: str,
        default: str,
        classes: int,
        total_classes: int | None = None,
        shuffled: bool = True,
    ) -> Protocol:
        """Work out the protocol.

        Args:
            protocol: What the user asked for; a number stands for as many equal tasks.
            title: Name of the data set, for messages.
            default: Name of the protocol if nothing was asked for.
            classes: Classes used if ``n_classes`` is left out.
            total_classes: Classes of the data set, if more.
            shuffled: Whether the published order is a permutation.

        Returns:
            The protocol.

        Raises:
            ValueError: If it does not fit the data set, or is said twice.
        """
        total = classes if total_classes is None else total_classes
        if isinstance(protocol, Protocol):
            return self._checked(protocol, title, total)
        if protocol is not None and self.n_experiences is not None:
            raise ValueError(
                f"protocol={protocol!r} and n_experiences={self.n_experiences} each say what the "
                "split is; leave one of the two out"
            )
        used = classes if self.n_classes is None else self.n_classes
        if used > total:
            raise ValueError(f"{title} has {total} classes, got n_classes={used}")
        name = default if protocol is None else protocol
        if isinstance(name, int) or self.n_experiences is not None:
            name = _equal_tasks(name if isinstance(name, int) else self.n_experiences, used)
        return Protocol.parse(
            name,
            n_classes=used,
            class_order_seed=self._seed(shuffled),
            fixed_class_order=self.fixed_class_order,
            total_classes=total,
        )

    def _seed(self, shuffled: bool) -> int | None:
        if self.fixed_class_order is not None:
            return None
        if self.seed is not None:
            return self.seed
        if self.class_order_seed != "published":
            return self.class_order_seed
        return DEFAULT_SEED if (shuffled if self.shuffle is None else self.shuffle) else None

    def _checked(self, protocol: Protocol, title: str, total: int) -> Protocol:
        """A protocol that the user built has the order and the number of classes already."""
        counts = ("n_classes", "n_experiences")
        twice = [*self.order_given, *(name for name in counts if getattr(self, name) is not None)]
        if twice:
            raise ValueError(
                f"a Protocol says itself what {' and '.join(twice)} would say; leave that out, or "
                f"pass the protocol's name {protocol.name!r}"
            )
        if protocol.total_classes != total:
            raise ValueError(
                f"the protocol is for {protocol.total_classes} classes, but {title} has {total}; "
                f"build it with total_classes={total}"
            )
        return protocol


def _equal_tasks(tasks: Any, classes: int) -> str:
    """Name of the protocol that n_experiences stands for."""
    if not isinstance(tasks, int) or tasks < 1 or classes % tasks:
        raise ValueError(
            f"n_experiences must divide the {classes} classes, got {tasks!r}; a protocol such as "
            "'B0-Inc10' allows a remainder in the last task"
        )
    return f"B0-Inc{classes // tasks}"
