"""The rule by which a benchmark is drawn from OmniBenchmark V2, apart from any file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from avalanche_care.benchmarks._omnibenchmark_v2 import HELD_OUT, V2Class
from avalanche_care.benchmarks.importing._own_split import ranked

__all__ = ["ClassPool", "class_pool", "draw", "fair_shares", "size_limit"]


def fair_shares(available: Mapping[str, int], total: int) -> dict[str, int]:
    """How many each realm gives, if they take turns in the order of their names.

    Args:
        available: Realm -> how many it has.
        total: How many are wanted; not more than there are.

    Returns:
        Realm -> how many it gives; ``total`` in all.

    Example:
        >>> fair_shares({"bird": 9, "car": 1, "food": 9}, 8)
        {'bird': 4, 'car': 1, 'food': 3}
    """
    shares = dict.fromkeys(sorted(available), 0)
    left = min(total, sum(available.values()))
    while left:
        for realm in shares:
            if left and shares[realm] < available[realm]:
                shares[realm] += 1
                left -= 1
    return shares


def size_limit(sizes: Sequence[int], mean: int | None) -> int | None:
    """The largest limit on the size of a class with which the average is not above ``mean``.

    Args:
        sizes: Number of images of each class.
        mean: The average wanted, at most; None for no limit.

    Returns:
        The limit; None if none is needed.

    Example:
        >>> size_limit([100, 150, 600], 200)
        350
    """
    if mean is None or sum(sizes) <= mean * len(sizes):
        return None
    budget = mean * len(sizes)
    for place, size in enumerate(sorted(sizes)):  # classes below the limit are there in full
        limit = budget // (len(sizes) - place)
        if size > limit:
            return limit
        budget -= size
    return None


@dataclass(frozen=True)
class ClassPool:
    """The images that a data set may take of one class.

    Attributes:
        of: The class.
        train, test: Images as "list/path", in drawing order.
    """

    of: V2Class
    train: list[str]
    test: list[str]

    def file(self, key: str) -> str:
        """The file of an image."""
        split, _, path = key.partition("/")
        return self.of.images[split][path]


def class_pool(one: V2Class, held_out: Sequence[str], seed: int, test_per_class: int) -> ClassPool:
    """Which images of a class are for testing, and in which order the others are drawn.

    Args:
        one: The class.
        held_out: Which lists of test images its realm has; if none, training images are set aside.
        seed: Decides the order.
        test_per_class: Number of test images, at most.

    Returns:
        The images; a file is never on both sides.
    """
    group = f"{one.realm}/{one.number}"
    order = {
        split: ranked(seed, group, [f"{split}/{path}" for path in images])
        for split, images in one.images.items()
    }
    train = order.get("train", [])
    if not held_out:
        return ClassPool(one, train[test_per_class:], train[:test_per_class])
    pool = ClassPool(one, train, [key for split in HELD_OUT for key in order.get(split, [])])
    by_file = {pool.file(key): key for key in reversed(pool.test)}  # each file once
    test = [key for key in pool.test if by_file[pool.file(key)] == key][:test_per_class]
    tested = {pool.file(key) for key in test}
    return ClassPool(one, [key for key in train if pool.file(key) not in tested], test)


def draw(usable: Sequence[ClassPool], shares: Mapping[str, int], seed: int) -> list[ClassPool]:
    """The first classes of each realm in drawing order.

    Args:
        usable: The classes that may be drawn.
        shares: Realm -> how many of them.
        seed: Decides the order.

    Returns:
        As many classes as the shares say, sorted by realm and id.
    """
    chosen = []
    for realm in sorted(shares):
        pools = {str(pool.of.number): pool for pool in usable if pool.of.realm == realm}
        drawn = ranked(seed, realm, pools)[: shares[realm]]
        chosen += [pools[number] for number in sorted(drawn, key=int)]
    return chosen
