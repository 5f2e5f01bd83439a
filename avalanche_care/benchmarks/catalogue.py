"""What is known about the published data sets: their sizes, splits, sources and licences.

Pure data. Neither torch nor avalanche is imported, so that the command line can show it at once.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = [
    "CARDS",
    "LONG_PROTOCOLS",
    "DatasetCard",
    "HubSource",
    "ManualSource",
    "TorchvisionSource",
    "get_card",
    "suggestion",
]

LONG_PROTOCOLS = ("B0-Inc10", "B100-Inc6", "B0-Inc5", "B100-Inc3")
"""The protocols of OmniBenchmark-1K: 100, 151, 200 and 301 tasks on 1,000 classes."""

_SHUFFLED = {"care": True, "pilot": True}


@dataclass(frozen=True)
class HubSource:
    """A data set repository of the Hugging Face hub."""

    repo_id: str

    @property
    def url(self) -> str:
        """The page of the repository."""
        return f"https://huggingface.co/datasets/{self.repo_id}"


@dataclass(frozen=True)
class TorchvisionSource:
    """A data set that torchvision downloads and reads.

    Attributes:
        cls: Name of the class in ``torchvision.datasets``.
        url: Where it is described.
    """

    cls: str
    url: str


@dataclass(frozen=True)
class ManualSource:
    """A data set that has to be fetched by hand.

    Attributes:
        url: The page with the files.
        instructions: What to do with them, as a sentence.
    """

    url: str
    instructions: str


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """One published data set.

    Attributes:
        name: Name for the command line, :func:`load_benchmark` and result files.
        title: Name in the papers.
        generator: Function of ``avalanche_care.benchmarks`` that makes the benchmark.
        folder: Folder below the data root. It holds ``train/<class>/*`` and ``test/<class>/*``, or
            what torchvision keeps.
        other_folders: Further places where the reference repositories have it.
        classes, train_images, test_images: What a complete copy has.
        counts: Where the numbers of images are from.
        protocols: Protocols of published tables, the default first.
        class_orders: Seeds of published class orders, the default first.
        shuffled: Whether the classes are permuted, under CaRE's transforms and under those of the
            PILOT family.
        source: Where the images are.
        licence: The terms as far as they are known. The publisher's own page is what counts.
        citation: Authors, title and year.
        notes: What else to know before using it.
    """

    name: str
    title: str
    generator: str
    folder: str
    classes: int
    train_images: int
    test_images: int
    counts: str
    protocols: tuple[str, ...]
    source: HubSource | TorchvisionSource | ManualSource
    licence: str
    citation: str
    other_folders: tuple[str, ...] = ()
    class_orders: tuple[int, ...] = (1993,)
    shuffled: Mapping[str, bool] = field(default_factory=_SHUFFLED.copy)
    notes: str = ""

    def tasks(self, protocol: str) -> int:
        """Number of tasks of a protocol on all classes."""
        from avalanche_care.benchmarks.protocol import Protocol  # NumPy, which --help does without

        return Protocol.parse(protocol, n_classes=self.classes).tasks


_PILOT = "https://github.com/LAMDA-CL/LAMDA-PILOT"
_REVISITING = "appendix of arXiv:2303.07338 (from memory)"
_IMAGES_OF_OTHERS = "The code is MIT; the images belong to their photographers and artists."


def _from_pilot(folder: str) -> ManualSource:
    return ManualSource(
        _PILOT,
        f"take the archive that its README links to under 'Datasets' and pass it to "
        f"'avalanche-care data download {folder} --from ARCHIVE'",
    )


_ALL = (
    DatasetCard(
        name="omnibenchmark1k",
        title="OmniBenchmark-1K",
        generator="OmniBenchmark1K",
        folder="omnibenchmark1k",
        classes=1000,
        train_images=168_718,
        test_images=19_849,
        counts="the CaRE paper",
        protocols=LONG_PROTOCOLS,
        class_orders=(1993, 1990, 1996, 1999),
        source=HubSource("LMMM2025/OmniBenchmark-1K"),
        licence="OmniBenchmark V2's licence allows no derivatives without permission, which the "
        "authors of OmniBenchmark-1K had. Non-commercial research.",
        citation="Lou, Fu and Yu, Scaling Continual Learning to 300+ Tasks with Bi-Level Routing "
        "Mixture-of-Experts, 2026; its source: Zhang et al., Benchmarking Omni-Vision "
        "Representation through the Lens of Visual Realms, 2022",
        notes="21 realms; 100 to 403 training and 17 to 20 test images a class.",
    ),
    DatasetCard(
        name="cifar100",
        title="CIFAR-100",
        generator="SplitCIFAR100",
        folder="cifar-100-python",
        classes=100,
        train_images=50_000,
        test_images=10_000,
        counts="the data set's page",
        protocols=("B0-Inc10", "B0-Inc5"),
        source=TorchvisionSource("CIFAR100", "https://www.cs.toronto.edu/~kriz/cifar.html"),
        licence="None stated; the page asks for the citation.",
        citation="Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
        notes="32 x 32 pixels, enlarged to what the network sees.",
    ),
    DatasetCard(
        name="imagenet-r",
        title="ImageNet-R",
        generator="SplitImageNetR",
        folder="imagenet-r",
        classes=200,
        train_images=24_000,
        test_images=6_000,
        counts=_REVISITING,
        protocols=("B0-Inc20", "B0-Inc10", "B0-Inc5", "B0-Inc4"),
        source=_from_pilot("imagenet-r"),
        licence=_IMAGES_OF_OTHERS,
        citation="Hendrycks et al., The Many Faces of Robustness, 2021",
        notes="The original has no training part; this is the split of the reference repositories.",
    ),
    DatasetCard(
        name="imagenet-a",
        title="ImageNet-A",
        generator="SplitImageNetA",
        folder="imagenet-a",
        classes=200,
        train_images=5_981,
        test_images=1_519,
        counts=_REVISITING,
        protocols=("B0-Inc20", "B0-Inc10", "B0-Inc4"),
        source=_from_pilot("imagenet-a"),
        licence=_IMAGES_OF_OTHERS,
        citation="Hendrycks et al., Natural Adversarial Examples, 2021",
        notes="The original has no training part; this is the split of the reference repositories.",
    ),
    DatasetCard(
        name="objectnet",
        title="ObjectNet",
        generator="SplitObjectNet",
        folder="objectnet",
        classes=200,
        train_images=26_509,
        test_images=6_628,
        counts=_REVISITING,
        protocols=("B0-Inc10", "B0-Inc20", "B0-Inc4"),
        source=_from_pilot("objectnet"),
        licence="CC BY 4.0 with two clauses more: no model may be trained or tuned on it, and "
        "images may be shown on the web only with a red border of one pixel.",
        citation="Barbu et al., ObjectNet, 2019",
        notes="200 of its 313 classes. Class-incremental learning trains on them, which the "
        "licence of the original forbids: ask its authors first.",
    ),
    DatasetCard(
        name="omnibenchmark",
        title="OmniBenchmark (300)",
        generator="SplitOmniBenchmark300",
        folder="omnibenchmark",
        classes=300,
        train_images=89_697,
        test_images=5_985,
        counts=_REVISITING,
        protocols=("B0-Inc30", "B0-Inc5"),
        source=_from_pilot("omnibenchmark"),
        licence="As OmniBenchmark: no derivatives without permission, non-commercial research.",
        citation="Zhang et al., Benchmarking Omni-Vision Representation through the Lens of "
        "Visual Realms, 2022; the 300 classes: Zhou et al., arXiv:2303.07338",
    ),
    DatasetCard(
        name="vtab",
        title="VTAB (50)",
        generator="SplitVTAB",
        folder="vtab",
        other_folders=("vtab-cil/vtab",),
        classes=50,
        train_images=1_796,
        test_images=8_619,
        counts=_REVISITING,
        protocols=("B0-Inc10",),
        shuffled={"care": True, "pilot": False},
        source=_from_pilot("vtab"),
        licence="Each of its five data sets has its own.",
        citation="Zhai et al., The Visual Task Adaptation Benchmark, 2019; the 50 classes: "
        "Zhou et al., arXiv:2303.07338",
        notes="Five data sets of ten classes, one after the other. The PILOT family does not "
        "shuffle them, so that a task is a data set; CaRE does.",
    ),
    DatasetCard(
        name="cub",
        title="CUB-200",
        generator="SplitCUB200",
        folder="cub",
        classes=200,
        train_images=9_430,
        test_images=2_358,
        counts=_REVISITING,
        protocols=("B0-Inc10", "B0-Inc20"),
        source=_from_pilot("cub"),
        licence="Non-commercial research and education.",
        citation="Wah et al., The Caltech-UCSD Birds-200-2011 Dataset, 2011",
        notes="The split of the reference repositories, not the original one (5,994 and 5,794).",
    ),
    DatasetCard(
        name="omniglot",
        title="Omniglot (1,000)",
        generator="SplitOmniglot",
        folder="omniglot-py",
        classes=1000,
        train_images=15_000,
        test_images=5_000,
        counts="by construction: 15 + 5 writers",
        protocols=LONG_PROTOCOLS,
        source=TorchvisionSource("Omniglot", "https://github.com/brendenlake/omniglot"),
        licence="MIT.",
        citation="Lake et al., Human-level concept learning through probabilistic program "
        "induction, 2015",
        notes="1,000 of 1,623 characters; realms are alphabets. Real images under the long "
        "protocols that anyone can have in a minute; no published table uses it.",
    ),
)

CARDS: Mapping[str, DatasetCard] = {card.name: card for card in _ALL}
"""All cards by name, OmniBenchmark-1K first."""


def get_card(name: str) -> DatasetCard:
    """Return the card of a data set.

    Args:
        name: Its name, such as ``"imagenet-r"``.

    Raises:
        ValueError: If there is none; the message has the names there are.
    """
    if name in CARDS:
        return CARDS[name]
    raise ValueError(
        f"no data set is called {name!r}{suggestion(name, CARDS)}; there are {', '.join(CARDS)}"
    )


def suggestion(name: str, names: Mapping[str, object]) -> str:
    """What to add to the message about an unknown name: the nearest one, or nothing."""
    near = difflib.get_close_matches(str(name).lower(), names, n=1)
    return f", did you mean {near[0]!r}?" if near else ""
