"""Benchmarks by name: where the images are looked for, what is checked, which options hold."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from image_trees import class_names, make_cifar100, make_tree

from avalanche_care import benchmarks
from avalanche_care.benchmarks import (
    CARDS,
    CILBenchmark,
    DatasetRecord,
    OmniBenchmark1K,
    Protocol,
    SplitCIFAR100,
    SplitImageNetR,
    SplitOmniBenchmark300,
    SplitVTAB,
    available_benchmarks,
    load_benchmark,
    pack_folder,
    transform_family,
)
from avalanche_care.benchmarks._options import BenchmarkOptions, Settings
from avalanche_care.benchmarks.catalogue import TorchvisionSource

FOLDERS = [card.name for card in CARDS.values() if not isinstance(card.source, TorchvisionSource)]
SMALL = class_names(6)
FAMILIES = ["care", "pilot", "l2p", "coda", "ranpac", "slca", "normalized", "plain"]


def order(classes: int, seed: int = 1993) -> tuple[int, ...]:
    return tuple(np.random.RandomState(seed).permutation(classes).tolist())


@pytest.fixture(autouse=True)
def no_data_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVALANCHE_CARE_DATA", str(tmp_path / "nothing"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every data set of folders with 6 classes, 2 training images and 1 test image each."""
    for name in FOLDERS:
        card = dataclasses.replace(CARDS[name], classes=6, train_images=12, test_images=6)
        monkeypatch.setitem(CARDS, name, card)  # type: ignore[arg-type]
        make_tree(tmp_path / "data" / card.folder, SMALL)
    return tmp_path / "data"


def generator(name: str) -> Callable[..., CILBenchmark]:
    return getattr(benchmarks, CARDS[name].generator)


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize("by_name", [False, True])
def test_images_of_every_set(root: Path, name: str, by_name: bool) -> None:
    options: Any = {"root": root, "image_size": 8}
    if by_name:
        benchmark = load_benchmark(name, "B0-Inc4", **options)
    else:
        benchmark = generator(name)("B0-Inc4", **options)
    assert isinstance(benchmark, CILBenchmark)
    assert benchmark.name == name
    assert benchmark.protocol.sizes == (4, 2)
    assert benchmark.class_order == order(6)
    assert benchmark.class_names == tuple(SMALL[c] for c in order(6))
    family = transform_family("care", name, 8)
    assert benchmark.transforms == family.description
    assert benchmark.realms is None
    for stream, count in ((benchmark.train_stream, 2), (benchmark.test_stream, 1)):
        for task, experience in enumerate(stream):
            assert len(experience.dataset) == count * benchmark.protocol.sizes[task]
            for image, label, _ in experience.dataset.eval():
                assert image.shape == (3, 8, 8)
                # JPEG keeps a flat colour to within a few levels of 255.
                red = image[0].mean() * family.std[0] + family.mean[0]
                assert abs(float(red) * 255 - 40 * order(6)[label]) < 4


@pytest.mark.parametrize("name", FOLDERS)
def test_the_default_is_the_first_published_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    card = dataclasses.replace(CARDS[name], classes=60, train_images=60, test_images=60)
    monkeypatch.setitem(CARDS, name, card)  # type: ignore[arg-type]
    make_tree(tmp_path / card.folder, class_names(60), train=1, side=1)
    benchmark = generator(name)(root=tmp_path)
    assert benchmark.protocol == Protocol.parse(CARDS[name].protocols[0], n_classes=60)


@pytest.fixture(scope="module")
def omnibenchmark(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 1,000 classes of OmniBenchmark-1K, one image of one pixel each."""
    root = tmp_path_factory.mktemp("omnibenchmark")
    make_tree(root / "omnibenchmark1k", class_names(1000), train=1, side=1)
    return root


@pytest.mark.parametrize(
    ("protocol", "seed", "tasks"),
    [("B0-Inc10", 1993, 100), ("B100-Inc3", 1990, 301), ("B0-Inc7", 1996, 143)],
)
def test_omnibenchmark_1k(
    omnibenchmark: Path,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
    seed: int,
    tasks: int,
) -> None:
    with caplog.at_level(logging.WARNING):
        benchmark = OmniBenchmark1K(protocol, root=omnibenchmark, class_order_seed=seed)
    assert benchmark.protocol == Protocol.parse(protocol, n_classes=1000, class_order_seed=seed)
    assert len(benchmark.train_stream) == tasks
    assert benchmark.class_order == order(1000, seed)
    assert (
        "has 1,000 training images, expected 168,718 and 1,000 test images, expected 19,849 "
        "(the CaRE paper); accuracies may not be comparable" in caplog.text
    )


def test_the_beginning_of_the_long_order(omnibenchmark: Path) -> None:
    benchmark = OmniBenchmark1K("B0-Inc10", root=omnibenchmark, n_classes=40)
    assert benchmark.class_order == order(1000)[:40]
    assert len(benchmark.train_stream) == 4
    with pytest.raises(ValueError, match="OmniBenchmark-1K has 1000 classes, got n_classes=1001"):
        OmniBenchmark1K("B0-Inc10", root=omnibenchmark, n_classes=1001)


def test_the_right_counts_are_nothing_to_warn_of(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="avalanche_care"):
        benchmark = SplitImageNetR("B0-Inc2", root=root, transforms="slca")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert transform_family("slca", "imagenet-r").description in caplog.text
    assert "ImageNet's mean 0.485/0.456/0.406" in str(benchmark)
    assert "imagenet-r, B0-Inc2: 6 classes in 3 tasks, class order 1993" in str(benchmark)


@pytest.mark.parametrize(("more", "what"), [(-1, "1 are missing"), (2, "2 are too many")])
def test_other_classes_are_another_benchmark(root: Path, more: int, what: str) -> None:
    folder = root / "imagenet-r"
    for part in ("train", "test"):
        for name in class_names(8)[6 : 6 + max(more, 0)]:
            (folder / part / name).mkdir()
            data = (folder / part / SMALL[0] / "0.jpg").read_bytes()
            (folder / part / name / "0.jpg").write_bytes(data)
        if more < 0:
            (folder / part / SMALL[3]).rename(root / f"{part}-away")
    with pytest.raises(ValueError, match=f"has {6 + more} classes, and ImageNet-R has 6: {what}"):
        SplitImageNetR("B0-Inc2", root=root)


def test_a_class_that_is_only_in_one_part_is_named(root: Path) -> None:
    (root / "imagenet-r" / "test" / SMALL[3]).rename(root / "away")
    with pytest.raises(ValueError, match=f"1 classes are in .* but not in .*: {SMALL[3]}"):
        SplitImageNetR("B0-Inc2", root=root)


def test_missing_images(root: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    with pytest.raises(FileNotFoundError) as error:
        SplitImageNetR("B0-Inc2", root=empty)
    for text in (
        f"ImageNet-R is not there: no {empty}/imagenet-r/train and no {empty}/imagenet-r/test, ",
        "from https://github.com/LAMDA-CL/LAMDA-PILOT, take the archive",
        f"'avalanche-care data download imagenet-r --from ARCHIVE' (with --root {empty})",
    ):
        assert text in str(error.value)
    command = f"'avalanche-care data download omnibenchmark1k --root {empty}' or pass download=True"
    with pytest.raises(FileNotFoundError, match=re.escape(command)):
        OmniBenchmark1K("B0-Inc2", root=empty)
    (root / "cub" / "test").rename(root / "cub" / "val")
    with pytest.raises(FileNotFoundError, match=r"CUB-200 is not there: no [^ ]*cub/test, with"):
        generator("cub")("B0-Inc2", root=root)
    with pytest.raises(FileNotFoundError, match="root is the directory above such a folder"):
        SplitImageNetR("B0-Inc2", root=root / "imagenet-r")


def test_the_environment_says_where_the_data_are(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileNotFoundError, match="nothing/imagenet-r/train"):
        SplitImageNetR("B0-Inc2")
    monkeypatch.setenv("AVALANCHE_CARE_DATA", str(root))
    assert SplitImageNetR("B0-Inc2").name == "imagenet-r"


@pytest.fixture
def downloads(root: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Path]]:
    """What was downloaded; the files come from ``root``."""
    asked: list[tuple[str, Path]] = []

    def download_dataset(name: str, into: Path, **options: Any) -> Path:
        asked.append((name, into))
        into.mkdir(parents=True)
        (root / name).rename(into / name)
        return into / name

    monkeypatch.setattr("avalanche_care.benchmarks.named.download_dataset", download_dataset)
    return asked


def test_download_only_what_is_not_there(
    root: Path, downloads: list[tuple[str, Path]], tmp_path: Path
) -> None:
    SplitImageNetR("B0-Inc2", root=root, download=True)
    assert downloads == []
    for _ in range(2):
        OmniBenchmark1K("B0-Inc2", root=tmp_path / "new", download=True)
    assert downloads == [("omnibenchmark1k", tmp_path / "new")]


def test_vtab_lies_in_either_place(root: Path) -> None:
    (root / "vtab-cil").mkdir()
    (root / "vtab").rename(root / "vtab-cil" / "vtab")
    assert SplitVTAB("B0-Inc2", root=root).name == "vtab"


@pytest.mark.parametrize("transforms", FAMILIES)
def test_vtab_is_shuffled_by_care_only(root: Path, transforms: str) -> None:
    def order_of(**options: Any) -> tuple[int, ...]:
        return SplitVTAB("B0-Inc2", root=root, transforms=transforms, **options).class_order

    shuffled = transforms == "care"
    assert order_of() == (order(6) if shuffled else tuple(range(6)))
    says = "class order 1993" if shuffled else "natural class order"
    assert says in str(SplitVTAB("B0-Inc2", root=root, transforms=transforms))
    # What is said wins over what is usual.
    assert order_of(seed=7) == order_of(class_order_seed=7) == order(6, 7)
    assert order_of(shuffle=True) == order(6)
    assert order_of(shuffle=False) == order_of(class_order_seed=None) == tuple(range(6))
    assert order_of(fixed_class_order=[5, 4, 3, 2, 1, 0]) == (5, 4, 3, 2, 1, 0)


@pytest.mark.parametrize("name", [name for name in FOLDERS if name != "vtab"])
def test_the_others_are_shuffled_by_all(root: Path, name: str) -> None:
    for transforms in FAMILIES:
        benchmark = generator(name)("B0-Inc2", root=root, transforms=transforms)
        assert benchmark.class_order == order(6)


def test_the_names_of_avalanche(root: Path) -> None:
    benchmark = SplitImageNetR(
        n_experiences=3,
        seed=7,
        shuffle=True,
        dataset_root=root,
        return_task_id=False,
        class_ids_from_zero_from_first_exp=True,
        class_ids_from_zero_in_each_exp=False,
        fixed_class_order=None,
        train_transform=lambda image: torch.zeros(1),
        eval_transform=lambda image: torch.ones(1),
    )
    assert benchmark.protocol == Protocol(0, 2, 6, 7)
    assert benchmark.train_stream[0].dataset[0][0] == 0
    assert benchmark.test_stream[0].dataset[0][0] == 1
    assert benchmark.transforms is not None
    assert benchmark.transforms.startswith("own; train: a transform of the user's")
    assert SplitImageNetR(3, root=root).protocol == Protocol(0, 2, 6)
    assert SplitImageNetR(2, root=root, n_classes=4).protocol.sizes == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"return_task_id": True}, "return_task_id must be False in class-incremental learning"),
        ({"class_ids_from_zero_from_first_exp": False}, "first_exp must be True .* positions in"),
        ({"class_ids_from_zero_in_each_exp": True}, "in_each_exp must be False"),
        ({"seed": 1, "class_order_seed": 2}, "class_order_seed and seed each say what the class"),
        ({"seed": 1, "fixed_class_order": [0]}, "fixed_class_order and seed each say"),
        ({"seed": 1, "shuffle": False}, "shuffle=False contradicts seed"),
        ({"class_order_seed": None, "shuffle": True}, "shuffle=True contradicts class_order_seed"),
        ({"fixed_class_order": [0], "shuffle": True}, "True contradicts fixed_class_order"),
        ({"dataset_root": "there"}, "root and dataset_root are the same thing"),
        ({"cache_eval": True, "eval_transform": len}, "cache_eval keeps .* leave one of the two"),
        ({"n_experiences": 4}, "n_experiences must divide the 6 classes, got 4"),
        ({"n_experiences": 0}, "n_experiences must divide the 6 classes, got 0"),
        ({"protocol": 5}, "n_experiences must divide the 6 classes, got 5"),
        ({"protocol": "B0-Inc2", "n_experiences": 3}, "protocol='B0-Inc2' and n_experiences=3"),
        ({"protocol": "B0Inc2"}, "a protocol is written B"),
        ({"protocol": Protocol(0, 2, 5)}, "is for 5 classes, but ImageNet-R has 6; build it with"),
        ({"protocol": Protocol(0, 2, 6), "seed": 1}, "says itself what seed would say"),
        ({"protocol": Protocol(0, 2, 6), "n_classes": 4}, "says itself what n_classes would say"),
        ({"fixed_class_order": [0, 1]}, "fixed_class_order must have 6 entries, got 2"),
        ({"transforms": "Pilot"}, "no transforms are called 'Pilot', did you mean 'pilot'"),
        ({"image_size": 0}, "image_size must be a positive number"),
    ],
)
def test_contradictions_and_misfits(root: Path, options: dict[str, Any], message: str) -> None:
    options = {"root": root, **options}
    if not {"protocol", "n_experiences"} & set(options):
        options["protocol"] = "B0-Inc2"
    with pytest.raises(ValueError, match=message):
        SplitImageNetR(**options)


def test_all_contradictions_at_once() -> None:
    with pytest.raises(ValueError, match="contradict each other") as error:
        Settings(return_task_id=True, seed=1, shuffle=False, root="a", dataset_root="b")
    assert str(error.value).count("\n- ") == 3


def test_a_misspelt_option_is_refused(root: Path) -> None:
    with pytest.raises(TypeError, match="sed"):
        SplitImageNetR(sed=1, root=root)  # type: ignore[call-arg]


def test_options_are_listed_completely() -> None:
    assert set(BenchmarkOptions.__annotations__) == {
        field.name for field in dataclasses.fields(Settings)
    }
    text = BenchmarkOptions.__doc__ or ""
    assert [name for name in BenchmarkOptions.__annotations__ if f"{name}" not in text] == []


def test_own_protocol_wins(root: Path) -> None:
    protocol = Protocol(2, 1, 4, 5, total_classes=6)
    assert SplitVTAB(protocol, root=root, transforms="pilot").protocol is protocol


def test_realms(root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    realms = {"bird": SMALL[:2], "food": SMALL[2:]}
    (tmp_path / "realms.json").write_text(json.dumps(realms))
    position = {original: label for label, original in enumerate(order(6))}
    expected = {
        "bird": tuple(sorted(position[c] for c in (0, 1))),
        "food": tuple(sorted(position[c] for c in (2, 3, 4, 5))),
    }
    for given in (realms, tmp_path / "realms.json", str(tmp_path / "realms.json")):
        benchmark = OmniBenchmark1K("B0-Inc2", root=root, realms=given)
        assert benchmark.realms == expected
    assert "realms: 2" in str(benchmark)
    record = DatasetRecord(
        name="omnibenchmark1k", classes=6, train_images=12, test_images=6, realms=realms
    )
    record.save(root / "omnibenchmark1k")
    assert OmniBenchmark1K("B0-Inc2", root=root).realms == expected
    other = OmniBenchmark1K("B0-Inc2", root=root, realms={"all": SMALL})
    assert other.realms == {"all": tuple(range(6))}
    with pytest.raises(ValueError, match="classes that the data do not have: n9"):
        OmniBenchmark1K("B0-Inc2", root=root, realms={"bird": ["n9"]})


@pytest.mark.parametrize("transforms", ["care", "normalized", "ranpac"])
def test_cached_evaluation_is_the_same(root: Path, tmp_path: Path, transforms: str) -> None:
    options: Any = {"root": root, "image_size": 14, "transforms": transforms}
    plain = SplitImageNetR("B0-Inc2", **options)
    cached = SplitImageNetR("B0-Inc2", cache_eval=tmp_path / "cache", **options)
    assert len(list((tmp_path / "cache").glob("eval-*.pack"))) == 1
    for here, there in zip(
        plain.test_stream[0].dataset, cached.test_stream[0].dataset, strict=True
    ):
        assert torch.equal(here[0], there[0])
    assert plain.transforms == cached.transforms


def test_what_cannot_be_cached_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cache_eval keeps the bicubic .* this is coda; train"):
        SplitImageNetR("B0-Inc2", root=root, transforms="coda", cache_eval=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_packed_files(root: Path) -> None:
    folder = root / "imagenet-r"
    with pytest.raises(FileNotFoundError) as error:
        SplitImageNetR("B0-Inc2", root=root, packed=True)
    assert (
        f"no {folder / 'train.pack'} and no {folder / 'test.pack'}; run 'avalanche-care data "
        in (str(error.value))
    )
    for part in ("train", "test"):
        pack_folder(folder / part, folder / f"{part}.pack", size=0)
    plain = SplitImageNetR("B0-Inc2", root=root, image_size=8)
    expected = torch.stack([image for image, *_ in plain.test_stream[1].dataset])
    for part in ("train", "test"):
        (folder / part).rename(folder / f"no-{part}")  # they are not needed any more
    packed = SplitImageNetR("B0-Inc2", root=root, packed=True, image_size=8)
    assert torch.equal(
        torch.stack([image for image, *_ in packed.test_stream[1].dataset]), expected
    )
    assert packed.class_names == plain.class_names
    assert len(packed.train_stream[0].dataset) == 4


def test_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_cifar100(tmp_path, monkeypatch)
    benchmark = SplitCIFAR100(root=tmp_path, image_size=8, transforms="pilot")
    assert benchmark.protocol == Protocol.parse("B0-Inc10", n_classes=100)
    assert benchmark.class_names is not None
    assert benchmark.class_names[0] == "thing_68"
    assert len(benchmark.train_stream[3].dataset) == 20
    for image, label, _ in benchmark.test_stream[3].dataset:
        grey = torch.full((3, 8, 8), benchmark.class_order[label] / 255)
        torch.testing.assert_close(image, grey)
    assert SplitCIFAR100(dataset_root=tmp_path).train_stream[0].dataset[0][0].shape[1:] == (
        224,
        224,
    )
    with pytest.raises(ValueError, match="CIFAR-100 is read from torchvision's own files; leave p"):
        SplitCIFAR100(root=tmp_path, packed=True)
    with pytest.raises(ValueError, match="cache_eval is for image folders and packed files, not f"):
        SplitCIFAR100(root=tmp_path, cache_eval=True)
    (tmp_path / "cifar-100-python" / "test").unlink()
    with pytest.raises(FileNotFoundError, match=r"CIFAR-100 is not in .*cifar-100-python, or its"):
        SplitCIFAR100(root=tmp_path)


def test_cifar100_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(data: Any) -> None:
        if not (Path(data.root) / "cifar-100-python").exists():
            make_cifar100(Path(data.root), monkeypatch)

    monkeypatch.setattr("torchvision.datasets.CIFAR100.download", download)
    assert len(SplitCIFAR100(root=tmp_path / "new", download=True).test_stream) == 10
    assert len(SplitCIFAR100(root=tmp_path / "new").test_stream) == 10


def test_glyphs_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = types.SimpleNamespace(
        train=np.zeros((1000, 1, 32, 32), np.uint8), test=np.zeros((1000, 1, 32, 32), np.uint8)
    )
    monkeypatch.setattr("avalanche_care.benchmarks.glyphs.glyph_images", lambda cache: drawn)
    benchmark = load_benchmark("glyphs", "B0-Inc5", n_classes=20, seed=1990, root="anywhere")
    assert benchmark.protocol == Protocol.parse(
        "B0-Inc5", n_classes=20, class_order_seed=1990, total_classes=1000
    )
    assert "glyphs; 32 x 32 pixels, normalised with mean 0.5" in str(benchmark)
    assert load_benchmark("glyphs").protocol == Protocol.parse("B0-Inc10", n_classes=1000)
    own = load_benchmark("glyphs", 10, n_classes=20, train_transform=lambda image: image)
    assert own.train_stream[0].dataset[0][0].dtype == torch.uint8
    assert "train: a transform of the user's; eval: 32 x 32" in str(own)
    with pytest.raises(ValueError, match=r"glyphs has images .* does not take cache_eval, transf"):
        load_benchmark("glyphs", transforms="care", cache_eval=True)


def test_omniglot_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[Any] = []

    def split(
        protocol: Protocol, *, root: Path | None = None, download: bool = False, image_size: int = 9
    ) -> str:
        asked.append((protocol, root, download, image_size))
        return "benchmark"

    monkeypatch.setattr("avalanche_care.benchmarks.omniglot.SplitOmniglot", split)
    made: Any = load_benchmark("omniglot", root=tmp_path, download=True, image_size=32)
    assert made == "benchmark"
    protocol = Protocol.parse("B0-Inc10", n_classes=1000, total_classes=1623)
    assert asked == [(protocol, tmp_path, True, 32)]
    with pytest.raises(
        ValueError, match=r"omniglot has images .* does not take packed, transforms"
    ):
        load_benchmark("omniglot", transforms="care", packed=True)


def test_imported_data_by_name(root: Path) -> None:
    make_tree(root / "my-set", class_names(12))
    record = DatasetRecord(
        name="my-set",
        classes=12,
        train_images=24,
        test_images=12,
        realms={"a": class_names(12)[:7], "b": class_names(12)[7:]},
        source="over there",
    )
    record.save(root / "my-set")
    benchmark = load_benchmark("my-set", root=root, transforms="normalized")
    assert benchmark.protocol == Protocol.parse("B0-Inc10", n_classes=12)
    assert benchmark.name == "my-set"
    assert benchmark.realms is not None
    assert [len(labels) for labels in benchmark.realms.values()] == [7, 5]
    assert available_benchmarks(root)["my-set"] == (
        "imported: 12 classes, 24 training and 12 test images"
    )
    (root / "my-set" / "test" / class_names(12)[3] / "0.jpg").rename(root / "x.jpg")
    with pytest.raises(ValueError, match=f"classes without a test image: 3 .{class_names(12)[3]}"):
        load_benchmark("my-set", root=root)


def test_records_that_are_no_imported_set(root: Path) -> None:
    usual = available_benchmarks(root)
    record = DatasetRecord(name="x", classes=6, train_images=12, test_images=6)
    record.save(root / "imagenet-r")  # of the catalogue
    (root / "half.part").mkdir()
    record.save(root / "half.part")  # unfinished
    assert available_benchmarks(root) == usual == available_benchmarks(root / "nowhere")
    (root / "broken").mkdir()
    (root / "broken" / "dataset.json").write_text("{")
    found = available_benchmarks(root)
    assert found.pop("broken").startswith("imported, but its record cannot be read: ")
    assert found == usual
    with pytest.raises(ValueError, match="is not a JSON file"):
        load_benchmark("broken", root=root)


def test_unknown_names(root: Path) -> None:
    make_tree(root / "my-set", SMALL)
    DatasetRecord(name="my-set", classes=6, train_images=12, test_images=6).save(root / "my-set")
    with pytest.raises(ValueError, match="called 'imagenetr', did you mean 'imagenet-r'"):
        load_benchmark("imagenetr", root=root)
    with pytest.raises(ValueError, match=r"did you mean 'my-set'\?; there are .*glyphs.*my-set"):
        load_benchmark("my_set", root=root)
    with pytest.raises(ValueError, match="call benchmark_from_folders"):
        load_benchmark("folders", root=root)


def test_the_catalogue_is_listed_with_numbers() -> None:
    listed = available_benchmarks()
    assert listed["omnibenchmark1k"] == (
        "OmniBenchmark-1K: 1,000 classes, 168,718 training and 19,849 test images; "
        "B0-Inc10, B100-Inc6, B0-Inc5, B100-Inc3"
    )
    assert set(CARDS) | {"folders", "glyphs"} == set(listed)


def test_names_of_the_generators() -> None:
    assert generator("omnibenchmark") is SplitOmniBenchmark300
    for card in CARDS.values():
        assert callable(generator(card.name))
        assert card.generator in benchmarks.__all__
