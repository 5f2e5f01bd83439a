"""Omniglot from torchvision's files: which drawing is in which set, and what is said if it is not.

The files are made here: five characters instead of 1,623, with the class and the person in pixels.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import Omniglot

from avalanche_care.benchmarks import Protocol, load_benchmark, loading
from avalanche_care.benchmarks import _omniglot_files as files
from avalanche_care.benchmarks.importing.staging import exclusive
from avalanche_care.benchmarks.omniglot import SplitOmniglot, omniglot_transform

SIDE = 105
NAMES = ["Arcadian/character01", "Greek/character01", "Greek/character02"]  # of the background
NAMES += ["Angelic/character01", "Angelic/character02"]
SMALL = {"images_background": 3, "images_evaluation": 2}


def drawing(character: int, person: int) -> Image.Image:
    """White paper, one bit a pixel, with two strokes whose lengths say whose drawing it is."""
    paper = np.ones((SIDE, SIDE), bool)
    paper[0, : character + 1] = paper[1, : person + 1] = False
    return Image.fromarray(paper)


def identity(image: Any) -> tuple[int, int]:
    """Character and person of an image in [-1, 1], (3, SIDE, SIDE)."""
    assert image.shape == (3, SIDE, SIDE)
    assert (image == image[:1]).all()
    ink = (image[0] == -1).sum(1).tolist()
    assert sum(ink) == ink[0] + ink[1]
    return ink[0] - 1, ink[1] - 1


def part_of(number: int) -> str:
    return "images_background" if number < SMALL["images_background"] else "images_evaluation"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PARTS", SMALL)


@pytest.fixture
def root(tmp_path: Path, small: None) -> Path:
    """Five characters by 20 people each, written in an order that is not that of the names."""
    for number in (4, 1, 0, 2, 3):
        folder = tmp_path / "omniglot-py" / part_of(number) / NAMES[number]
        folder.mkdir(parents=True)
        for person in (*range(10, 20), *range(10)):
            drawing(number, person).save(folder / f"{number + 1:04d}_{person + 1:02d}.png")
    return tmp_path


def omniglot(root: Path, protocol: Any = "B0-Inc2", **options: Any) -> Any:
    return SplitOmniglot(protocol, root=root, **{"n_classes": 5, "image_size": SIDE, **options})


def test_who_drew_what(root: Path) -> None:
    benchmark = omniglot(root)
    order = Protocol.parse("B0-Inc2", n_classes=5).class_order
    assert benchmark.class_order == order
    assert benchmark.protocol.sizes == (2, 2, 1)
    for stream, people in (
        (benchmark.train_stream, range(15)),
        (benchmark.test_stream, range(15, 20)),
    ):
        for task, experience in enumerate(stream):
            labels = benchmark.protocol.classes_of(task)
            found = [(label, *identity(image)) for image, label, _ in experience.dataset]
            assert sorted(found) == [(label, order[label], p) for label in labels for p in people]


def test_names_and_realms(root: Path) -> None:
    benchmark = omniglot(root, class_order_seed=None)
    assert benchmark.class_names == tuple(NAMES)
    assert benchmark.realms == {"Arcadian": (0,), "Greek": (1, 2), "Angelic": (3, 4)}
    assert benchmark.name == "omniglot"


def test_fewer_characters_are_the_beginning_of_the_order_of_all(root: Path) -> None:
    whole = Protocol.parse("B0-Inc2", n_classes=5)
    benchmark = omniglot(root, n_classes=3)
    assert benchmark.class_order == whole.class_order[:3]
    assert benchmark.class_names == tuple(NAMES[c] for c in whole.class_order[:3])
    assert sum(len(e.dataset) for e in benchmark.train_stream) == 3 * 15
    # Of characters that are not used the drawings are not even looked at.
    shutil.rmtree(
        root / "omniglot-py" / part_of(whole.class_order[3]) / NAMES[whole.class_order[3]]
    )
    (root / "omniglot-py" / part_of(whole.class_order[3]) / NAMES[whole.class_order[3]]).mkdir()
    assert omniglot(root, n_classes=3).class_order == benchmark.class_order


def test_images_are_rgb_until_they_are_transformed(root: Path) -> None:
    class Stop(Exception):
        pass

    def look(image: Image.Image) -> None:
        assert (image.mode, image.size) == ("RGB", (SIDE, SIDE))
        assert image.getpixel((SIDE - 1, SIDE - 1)) == (255, 255, 255)
        raise Stop

    benchmark = omniglot(root, train_transform=look)
    with pytest.raises(Stop):
        benchmark.train_stream[0].dataset[0]
    image, _, _ = benchmark.test_stream[0].dataset[0]
    assert image.shape == (3, SIDE, SIDE)
    assert benchmark.transforms == (
        "drawings; train: a transform of the user's; eval: the whole drawing, both sides to "
        "105 pixels (bicubic), normalised with mean 0.5 and deviation 0.5"
    )
    assert "no augmentation" in omniglot(root).transforms


def test_the_whole_drawing_is_resized() -> None:
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    picture.paste((0, 0, 0), (0, 0, 35, SIDE))  # the left third is ink
    for size in (21, 105, 210):
        image = omniglot_transform(size)(picture)
        assert image.shape == (3, size, size)
        edge = size // 3
        assert (image[:, :, : edge - 4] == -1).all()
        assert (image[:, :, edge + 4 :] == 1).all()
    first = omniglot_transform(64)(picture)
    assert torch.equal(omniglot_transform(64)(picture), first)  # nothing is random
    with pytest.raises(ValueError, match="image_size must be a positive number of pixels, got 0"):
        omniglot_transform(0)


@pytest.mark.parametrize("options", [{"n_experiences": 5, "seed": 3}, {"shuffle": False}])
def test_options_in_the_manner_of_avalanche(root: Path, options: dict[str, Any]) -> None:
    protocol = None if "n_experiences" in options else "B0-Inc1"
    benchmark = SplitOmniglot(
        protocol, dataset_root=root, n_classes=5, return_task_id=False, **options
    )
    expected = Protocol(0, 1, 5, class_order_seed=options.get("seed"))
    assert benchmark.protocol.class_order == expected.class_order
    assert len(benchmark.train_stream) == 5


def test_options_that_make_no_sense_here(root: Path) -> None:
    with pytest.raises(ValueError, match="does not take packed, transforms"):
        omniglot(root, transforms="care", packed=True)
    with pytest.raises(TypeError, match="n_clases"):
        omniglot(root, n_clases=3)
    with pytest.raises(ValueError, match="Omniglot has 5 classes, got n_classes=6"):
        omniglot(root, n_classes=6)
    with pytest.raises(ValueError, match="for 4 classes, but Omniglot has 5"):
        SplitOmniglot(Protocol(0, 2, 4), root=root)


def test_by_name_and_from_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVALANCHE_CARE_DATA", str(root))
    own = SplitOmniglot(Protocol(0, 2, 5), image_size=32)
    assert own.train_stream[0].dataset[0][0].shape == (3, 32, 32)
    with monkeypatch.context() as patch:
        patch.setitem(loading._OWN_IMAGES, "omniglot", ("SplitOmniglot", 5))
        named = load_benchmark("omniglot", "B0-Inc2", n_classes=5, image_size=32)
    assert named.class_order == own.class_order


def test_nothing_there(tmp_path: Path, root: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    with pytest.raises(
        FileNotFoundError, match=r"images_background and no .*images_evaluation"
    ) as e:
        omniglot(elsewhere)
    assert str(elsewhere / "omniglot-py") in str(e.value)
    assert "download=True" in str(e.value)
    shutil.rmtree(root / "omniglot-py" / "images_evaluation")
    with pytest.raises(FileNotFoundError, match=r"no [^ ]*images_evaluation, with folders"):
        omniglot(root)


def test_characters_or_drawings_missing(root: Path) -> None:
    angelic = root / "omniglot-py" / "images_evaluation" / "Angelic"
    (angelic / "character02" / "0005_20.png").unlink()
    (angelic / "character01" / "extra.png").write_bytes(b"")
    (angelic / "character01" / "notes.txt").write_text("not a drawing")
    with pytest.raises(
        ValueError, match=r"not the whole of Omniglot; remove .* download=True"
    ) as e:
        omniglot(root)
    assert "\n- Angelic/character01 has 21 drawings and not 20" in str(e.value)
    assert "\n- Angelic/character02 has 19 drawings and not 20" in str(e.value)
    shutil.rmtree(angelic / "character02")
    with pytest.raises(ValueError, match="images_evaluation has 1 characters and not 2"):
        omniglot(root)
    shutil.copytree(
        root / "omniglot-py" / "images_background" / "Arcadian", angelic.parent / "Arcadian"
    )
    with pytest.raises(ValueError, match="Arcadian/character01 is in both parts"):
        omniglot(root)


def test_a_broken_drawing_is_named_when_it_is_read(root: Path) -> None:
    broken = root / "omniglot-py" / "images_evaluation" / "Angelic" / "character01" / "0004_01.png"
    broken.write_bytes(broken.read_bytes()[:40])
    benchmark = omniglot(root, class_order_seed=None)
    with pytest.raises(ValueError, match=r"cannot read the image .*0004_01\.png"):
        list(benchmark.train_stream[1].dataset)


class Site:
    """torchvision's addresses, on this machine: a folder, and which of its files were asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.asked = folder, []
        asked = self.asked

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:  # torchvision asks twice, the first time where this leads
                asked.append(self.path)
                super().do_GET()

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        handler = functools.partial(Handler, directory=str(folder))
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def site(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A server with the two zip files; the folders they were made of are gone."""
    folder, sums = tmp_path / "site", {}
    for part in SMALL:
        name = shutil.make_archive(str(folder / part), "zip", root / "omniglot-py", part)
        sums[part] = hashlib.md5(Path(name).read_bytes(), usedforsecurity=False).hexdigest()
    shutil.rmtree(root / "omniglot-py")
    site = Site(folder)
    monkeypatch.setattr(Omniglot, "download_url_prefix", site.url)
    monkeypatch.setattr(Omniglot, "zips_md5", sums)
    thread = threading.Thread(target=site.server.serve_forever, args=(0.01,))
    thread.start()
    yield site
    site.server.shutdown()
    thread.join()
    site.server.server_close()


def test_download(site: Site, root: Path) -> None:
    benchmark = omniglot(root, download=True)
    assert set(site.asked) == {"/images_background.zip", "/images_evaluation.zip"}
    assert sum(len(e.dataset) for e in benchmark.train_stream) == 75
    # torchvision's own class is content with what is there.
    theirs = Omniglot(str(root), background=False)
    assert len(theirs) == 2 * 20
    # What is there is not fetched again, and is enough without a network.
    site.asked.clear()
    assert omniglot(root, download=True).class_order == omniglot(root).class_order
    assert site.asked == []
    left = {entry.name for entry in (root / "omniglot-py").iterdir() if entry.suffix == ""}
    assert left == set(SMALL)


def test_a_download_that_was_killed_goes_on(site: Site, root: Path) -> None:
    folder = root / "omniglot-py"
    # One part was complete, the other had its zip file and was in the middle of a drawing.
    files.download_omniglot(root)
    shutil.rmtree(folder / "images_evaluation")
    half = folder / ".images_evaluation.part" / "images_evaluation" / NAMES[3] / "0004_01.png"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    site.asked.clear()
    benchmark = omniglot(root, download=True)
    assert site.asked == []  # the zip file is intact
    assert sum(len(list(e.dataset)) for e in benchmark.train_stream) == 75
    assert not (folder / ".images_evaluation.part").exists()


def test_what_was_unpacked_by_hand_is_left_alone(root: Path) -> None:
    """No address is asked, and nothing written: the folder may be shared and read-only."""
    assert omniglot(root, download=True).protocol.tasks == 3
    assert {entry.name for entry in (root / "omniglot-py").iterdir()} == set(SMALL)


def test_of_two_who_download_one_waits(site: Site, root: Path) -> None:
    folder = root / "omniglot-py"
    files.download_omniglot(root)
    site.asked.clear()
    os.rename(folder / "images_evaluation", folder / "aside")
    for name in ("images_background.zip", "images_evaluation.zip"):
        (folder / name).unlink()
    second = threading.Thread(target=files.download_omniglot, args=(root,))
    with exclusive(folder / "images_evaluation"):  # the first
        second.start()
        second.join(0.2)
        assert second.is_alive()
        os.rename(folder / "aside", folder / "images_evaluation")
    second.join(10)
    assert not second.is_alive()
    assert site.asked == []


def test_a_damaged_download_is_refused(site: Site, root: Path) -> None:
    (site.folder / "images_evaluation.zip").write_bytes(b"not what it was")
    with pytest.raises(OSError, match=r"images_evaluation\.zip: File not found or corrupted") as e:
        omniglot(root, download=True)
    assert "by hand and unpack them in" in str(e.value)
    assert (root / "omniglot-py" / "images_background").is_dir()
    assert not (root / "omniglot-py" / "images_evaluation").exists()


def test_no_network(site: Site, root: Path) -> None:
    (site.folder / "images_background.zip").unlink()
    with pytest.raises(OSError, match=r"could not be downloaded from .*404"):
        omniglot(root, download=True)


def test_the_long_protocols_on_all_1623_characters(tmp_path: Path) -> None:
    """One drawing under 32,460 names. 964 + 659 characters, 1,000 of them used."""
    blank = tmp_path / "blank.png"
    drawing(0, 0).save(blank)
    number = 0
    for part, characters in (("images_background", 964), ("images_evaluation", 659)):
        for character in range(characters):
            folder = (
                tmp_path / "omniglot-py" / part / f"{part}{character % 20}" / f"c{character:03d}"
            )
            folder.mkdir(parents=True)
            for person in range(20):
                os.link(blank, folder / f"{number:04d}_{person + 1:02d}.png")
            number += 1
    benchmark = SplitOmniglot("B100-Inc3", root=tmp_path)
    assert len(benchmark.train_stream) == len(benchmark.seen_stream) == 301
    assert benchmark.class_order == Protocol(0, 1, 1623).class_order[:1000]
    assert [len(benchmark.train_stream[t].dataset) for t in (0, 1, 300)] == [1500, 45, 45]
    assert len(benchmark.seen_stream[300].dataset) == 5000
