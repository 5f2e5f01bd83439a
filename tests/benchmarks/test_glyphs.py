"""The embedded benchmark: what is drawn, how it is kept, how it is split."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from avalanche_care.benchmarks import _glyph_cache, glyphs
from avalanche_care.benchmarks._cache import cache_directory
from avalanche_care.benchmarks._glyph_cache import (
    TEST_PER_CLASS,
    TRAIN_PER_CLASS,
    GlyphImages,
    cache_file_name,
    faces_of,
    glyph_images,
)
from avalanche_care.benchmarks._glyph_choice import (
    HOMOGLYPH_FACES,
    MIN_UNMATCHED_INK,
    TEST_FACES,
    TRAIN_FACES,
    background_characters,
    choose_characters,
    draw_all,
    find_homoglyphs,
    shipped_characters,
    unmatched_ink,
)
from avalanche_care.benchmarks._glyph_realms import realm_of, realms
from avalanche_care.benchmarks._glyph_render import GlyphRenderer, Pose, charmap, is_blank
from avalanche_care.benchmarks.glyphs import (
    LONG_PROTOCOLS,
    GlyphBenchmark,
    GlyphDataset,
    glyph_to_input,
)
from avalanche_care.benchmarks.protocol import Protocol

FEW = tuple(ord(c) for c in "A5Ж")


# --- drawing ---------------------------------------------------------------------------------


def test_drawing_is_the_same_each_time_and_on_each_machine():
    def digest() -> str:
        renderer = GlyphRenderer()
        drawn = [
            renderer.draw(ord(character), face, pose)
            for character in "AgЖ€→"
            for face in ("DejaVuSans", "STIXGeneral")
            for pose in (Pose(), Pose(rotation=9, scale=0.8, shear=0.1, stretch=0.9, shift=(1, 2)))
        ]
        return hashlib.sha256(np.stack(drawn).tobytes()).hexdigest()

    assert digest() == digest()
    # Drawn by this function with matplotlib 3.8.4, 3.10.9 and 3.11.2.
    assert digest() == "01b1067b810d6bf52e943d60c75846a2d2adb10a63ae14788f52c032d81f51b5"


def test_upright_glyph_fills_24_pixels_and_is_centred():
    image = GlyphRenderer().draw(ord("H"), "DejaVuSans")
    rows, columns = np.flatnonzero(image.max(axis=1)), np.flatnonzero(image.max(axis=0))
    assert image.shape == (32, 32)
    assert image.dtype == np.uint8
    assert (rows[0], rows[-1]) == (4, 27)  # the longer side: 24 of 32 rows
    assert columns[0] + columns[-1] == 31
    assert image.max() == 255


def test_pose_moves_the_drawing_as_documented():
    renderer = GlyphRenderer()
    upright = renderer.draw(ord("L"), "DejaVuSans")
    moved = renderer.draw(ord("L"), "DejaVuSans", Pose(shift=(3, 2)))
    np.testing.assert_array_equal(moved[2:, 3:], upright[:-2, :-3])
    # A quarter turn counter-clockwise takes the glyph's top to the left.
    turned = renderer.draw(ord("L"), "DejaVuSans", Pose(rotation=90)).astype(int)
    assert np.abs(turned - np.rot90(upright)).max() <= 2


def test_missing_glyph_is_found_through_the_charmap():
    assert ord("Ж") not in charmap("STIXSizOneSymReg")
    with pytest.raises(ValueError, match=r"STIXSizOneSymReg has no glyph for U\+0416"):
        GlyphRenderer().draw(ord("Ж"), "STIXSizOneSymReg")


def test_blank_characters_are_found():
    assert is_blank(0x00A0, "DejaVuSans")
    assert not is_blank(ord("."), "DejaVuSans")


# --- choice of characters --------------------------------------------------------------------


def test_unmatched_ink_equals_a_slow_reference():
    images = draw_all([ord(c) for c in "oöe"], "DejaVuSans")

    def near(image, y, x):
        return min(1.0, 2 * image[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].max())

    def slow(a, b):
        pixels = [(y, x) for y in range(32) for x in range(32)]
        return sum(a[p] * (1 - near(b, *p)) + b[p] * (1 - near(a, *p)) for p in pixels)

    expected = [[slow(a, b) for b in images] for a in images]
    np.testing.assert_allclose(unmatched_ink(images, images), expected, atol=1e-3)


def test_homoglyphs_are_recognised_and_other_pairs_are_not():
    latin, other = [ord(c) for c in "AcoI"], [ord(c) for c in "ΑСОl"]  # Greek, Cyrillic, l
    assert find_homoglyphs(latin, other, ["DejaVuSans"]).diagonal().all()
    assert find_homoglyphs([ord("c")], [ord("C")], ["DejaVuSans"]).all()  # size is normalised
    assert not find_homoglyphs([ord("o")], [ord("ö")], HOMOGLYPH_FACES).any()


def test_no_two_classes_are_homoglyphs():
    classes = shipped_characters()
    assert len(set(classes)) == len(classes) == 1000
    for face in HOMOGLYPH_FACES:
        images = draw_all(classes, face)
        distance = unmatched_ink(images, images)
        np.fill_diagonal(distance, np.inf)
        assert distance.min() >= MIN_UNMATCHED_INK, face


@pytest.fixture
def only_latin(monkeypatch):
    """As if the typefaces ended with the block Latin Extended-A: the whole choice takes 20 s."""

    def few(face: str) -> frozenset[int]:
        return frozenset(code for code in charmap(face) if code < 0x0180)

    monkeypatch.setattr("avalanche_care.benchmarks._glyph_choice.charmap", few)


@pytest.mark.usefixtures("only_latin")
def test_shipped_characters_are_what_choose_characters_chooses():
    # A character gives way only to a lower code point, and the realms take turns: the first
    # realms by themselves come out as in the whole.
    latin = tuple(code for code in shipped_characters() if code < 0x0180)
    assert len(latin) > 150
    assert choose_characters(len(latin)) == latin


def test_too_many_classes_are_refused(monkeypatch):
    monkeypatch.setattr("avalanche_care.benchmarks._glyph_choice.realm_of", _only_digits)
    with pytest.raises(ValueError, match=r"characters are distinct in these typefaces, 11 were"):
        choose_characters(11)


def _only_digits(code: int) -> str | None:
    return "Basic Latin" if ord("0") <= code <= ord("9") else None


def test_realms_cover_every_class_once():
    groups = realms(shipped_characters())
    assert sorted(i for members in groups.values() for i in members) == list(range(1000))
    assert len(groups) == 22
    assert max(len(members) for members in groups.values()) <= 60
    assert realm_of(ord("Ж")) == "Cyrillic"
    assert realm_of(0x10FFFF) is None


@pytest.mark.usefixtures("only_latin")
def test_background_characters_are_no_class_and_look_like_none():
    classes = [code for code in shipped_characters() if code < 0x0180]
    background = background_characters(classes)
    assert len(background) > 10
    assert not set(background) & set(classes)
    for lookalike in "Ico":
        assert ord(lookalike) not in background
    for face in HOMOGLYPH_FACES:
        distance = unmatched_ink(draw_all(background, face), draw_all(classes, face))
        assert distance.min() >= MIN_UNMATCHED_INK


# --- images ----------------------------------------------------------------------------------


def test_train_and_test_typefaces_are_disjoint():
    assert not set(TRAIN_FACES) & set(TEST_FACES)
    renderer = GlyphRenderer()
    for code in shipped_characters()[::50]:
        faces = faces_of(code, renderer)
        assert len(faces) == TRAIN_PER_CLASS + TEST_PER_CLASS
        train, test = faces[:TRAIN_PER_CLASS], faces[TRAIN_PER_CLASS:]
        assert set(train) <= set(TRAIN_FACES)
        assert set(test) <= set(TEST_FACES)
        assert all(code in charmap(face) for face in faces)
        assert max(train.count(f) for f in train) - min(train.count(f) for f in train) <= 1


def test_images_of_a_class_all_differ(tmp_path):
    images = glyph_images(tmp_path, FEW)
    # Printed by glyph_images with matplotlib 3.8.4 and 3.11.2.
    assert images.sha256 == "1b17eb85fbd8ec7e00cd473c712d9f4b47eade6a6e7dc1d3c3f5560b9076d5db"
    assert images.train.shape == (3, TRAIN_PER_CLASS, 32, 32)
    assert images.test.shape == (3, TEST_PER_CLASS, 32, 32)
    for one_class in np.concatenate([images.train, images.test], axis=1):
        assert len({image.tobytes() for image in one_class}) == TRAIN_PER_CLASS + TEST_PER_CLASS
        assert one_class.reshape(len(one_class), -1).max(axis=1).min() > 128


# --- cache -----------------------------------------------------------------------------------


def test_second_call_reads_the_file_that_the_first_wrote(tmp_path, monkeypatch):
    first = glyph_images(tmp_path / "new" / "directory", FEW)
    monkeypatch.setattr(_glyph_cache, "draw_class", None)  # drawing again would fail
    second = glyph_images(tmp_path / "new" / "directory", FEW)
    assert [path.name for path in (tmp_path / "new" / "directory").iterdir()] == [cache_file_name()]
    assert first.sha256 == second.sha256
    np.testing.assert_array_equal(first.train, second.train)
    np.testing.assert_array_equal(first.test, second.test)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "foreign", "empty", "other classes"])
def test_damaged_cache_is_drawn_again_with_a_message(tmp_path, caplog, damage):
    intact = glyph_images(tmp_path, FEW)
    path = tmp_path / cache_file_name()
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "foreign":
        np.savez_compressed(path, something=np.zeros(3))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        glyph_images(tmp_path, tuple(code + 1 for code in FEW))
    with caplog.at_level(logging.WARNING):
        again = glyph_images(tmp_path, FEW)
    assert "drawing it again" in caplog.text
    assert again.sha256 == intact.sha256
    caplog.clear()
    assert glyph_images(tmp_path, FEW).sha256 == intact.sha256
    assert not caplog.records


def test_stale_pixels_with_a_valid_archive_fail_the_checksum(tmp_path, caplog):
    intact = glyph_images(tmp_path, FEW)
    path = tmp_path / cache_file_name()
    with np.load(path) as arrays:
        images, sha256 = arrays["images"].copy(), arrays["sha256"]
    images[0, 0, 0, 0] ^= 1
    np.savez_compressed(path, images=images, sha256=sha256)
    assert glyph_images(tmp_path, FEW).sha256 == intact.sha256
    assert "fails its checksum" in caplog.text


def test_interrupted_drawing_leaves_no_file(tmp_path, monkeypatch):
    def interrupt(code, renderer):
        raise KeyboardInterrupt

    monkeypatch.setattr(_glyph_cache, "draw_class", interrupt)
    with pytest.raises(KeyboardInterrupt):
        glyph_images(tmp_path, FEW)
    assert list(tmp_path.iterdir()) == []


def test_reader_never_sees_half_a_file(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def spy(source, target):
        seen.append((Path(source).parent == tmp_path, Path(target).exists()))
        with np.load(source) as arrays:  # complete before it gets its name
            assert arrays["images"].shape == (3, 38, 32, 32)
        replace(source, target)

    monkeypatch.setattr(_glyph_cache.os, "replace", spy)
    glyph_images(tmp_path, FEW)
    assert seen == [(True, False)]


def test_two_processes_at_once(tmp_path):
    program = (
        "import sys; from avalanche_care.benchmarks._glyph_cache import glyph_images; "
        "print(glyph_images(sys.argv[1], (65, 53, 0x416)).sha256)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = [process.communicate(timeout=120)[0].strip() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert outputs == [glyph_images(tmp_path, FEW).sha256] * 2
    assert [path.name for path in tmp_path.iterdir()] == [cache_file_name()]


def test_unwritable_cache_says_what_to_do(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot be written to .*glyphs-v.*pass cache_dir=.* or set"):
        glyph_images(tmp_path / "file" / "cache", FEW)


def test_no_permission_is_noticed_before_drawing(tmp_path, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_glyph_cache, "draw_class", None)
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(OSError, match=r"Permission denied.*AVALANCHE_CARE_CACHE"):
        glyph_images(tmp_path, FEW)


def test_cache_directory_argument_then_variable_then_user_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("AVALANCHE_CARE_CACHE", raising=False)
    assert cache_directory().name == "avalanche_care"
    monkeypatch.setenv("AVALANCHE_CARE_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    assert cache_directory(tmp_path / "own") == tmp_path / "own"


def test_cache_name_has_the_versions(monkeypatch):
    monkeypatch.setattr("matplotlib.__version__", "9.8.7")
    assert cache_file_name().startswith("glyphs-v1-mpl9.8.7-ft")


# --- benchmark -------------------------------------------------------------------------------


@pytest.fixture
def numbered(monkeypatch):
    """The benchmark on images that carry their class index instead of a drawing."""
    index = np.arange(1000)
    images = np.zeros((1000, 38, 32, 32), dtype=np.uint8)
    images[:, :, 0, 0], images[:, :, 0, 1] = (index // 256)[:, None], (index % 256)[:, None]
    made = GlyphImages(images[:, :TRAIN_PER_CLASS], images[:, TRAIN_PER_CLASS:], "")
    monkeypatch.setattr(glyphs, "glyph_images", lambda cache_dir: made)


def class_in(image: torch.Tensor) -> int:
    values = ((image[0, 0, :2] + 1) * 127.5).round().long().tolist()
    return values[0] * 256 + values[1]


@pytest.mark.parametrize(
    ("protocol", "tasks"), list(zip(LONG_PROTOCOLS, (100, 151, 200, 301), strict=True))
)
@pytest.mark.usefixtures("numbered")
def test_long_protocols(protocol, tasks):
    benchmark = GlyphBenchmark(protocol)
    assert len(benchmark.train_stream) == len(benchmark.seen_stream) == tasks
    assert sum(benchmark.protocol.sizes) == 1000
    assert benchmark.class_order[:4] == (54, 7, 894, 512)  # RandomState(1993).permutation(1000)
    last = benchmark.train_stream[tasks - 1].dataset
    assert len(last) == benchmark.protocol.sizes[-1] * TRAIN_PER_CLASS
    for dataset in (last, benchmark.test_stream[tasks - 1].dataset):
        image, label = dataset[0][:2]
        assert class_in(image) == benchmark.class_order[label]
    assert len(benchmark.seen_stream[tasks - 1].dataset) == 1000 * TEST_PER_CLASS


@pytest.mark.usefixtures("numbered")
def test_100_classes_are_the_beginning_of_all_1000():
    short, long = GlyphBenchmark(n_classes=100), GlyphBenchmark()
    assert len(short.train_stream) == 10
    assert short.class_order == long.class_order[:100]
    assert short.class_names == long.class_names[:100]
    labels = [label for members in short.realms.values() for label in members]
    assert sorted(labels) == list(range(100))
    images = [short.train_stream[9].dataset[i] for i in (0, 299)]
    assert [class_in(image[0]) for image in images] == [short.class_order[i[1]] for i in images]


@pytest.mark.usefixtures("numbered")
def test_class_names_are_unicode_names():
    benchmark = GlyphBenchmark("B0-Inc10", class_order_seed=None)
    position = shipped_characters().index(ord("A"))
    assert benchmark.class_names[position] == "LATIN CAPITAL LETTER A"
    assert position in benchmark.realms["Basic Latin"]


@pytest.mark.usefixtures("numbered")
def test_own_transform_gets_the_uint8_image():
    got = []

    def transform(image):
        got.append((image.dtype, tuple(image.shape)))
        return image.float()

    benchmark = GlyphBenchmark(n_classes=100, train_transform=transform)
    benchmark.train_stream[0].dataset[0]
    assert got == [(torch.uint8, (3, 32, 32))]
    assert benchmark.test_stream[0].dataset[0][0].dtype == torch.float32
    assert len(got) == 1


@pytest.mark.usefixtures("numbered")
def test_protocol_object_is_used_or_refused():
    made = Protocol.parse("B10-Inc5", n_classes=20, total_classes=1000)
    assert GlyphBenchmark(made).protocol is made
    with pytest.raises(ValueError, match="1000 classes, the protocol was made for 20"):
        GlyphBenchmark(Protocol.parse("B10-Inc5", n_classes=20))
    with pytest.raises(ValueError, match="has 1000 classes, got n_classes=1001"):
        GlyphBenchmark(n_classes=1001)


def test_default_transform_spans_minus_one_to_one():
    image = torch.tensor([0, 51, 255], dtype=torch.uint8)
    torch.testing.assert_close(glyph_to_input(image), torch.tensor([-1.0, -0.6, 1.0]))


def test_dataset_items_are_three_equal_channels():
    image, label = GlyphDataset(np.full((1, 32, 32), 7, dtype=np.uint8), [4])[0]
    assert tuple(image.shape) == (3, 32, 32)
    assert (image == 7).all()
    assert label == 4


def test_benchmark_draws_its_images(tmp_path, monkeypatch):
    codes = shipped_characters()[:12]
    monkeypatch.setattr(glyphs, "shipped_characters", lambda: codes)
    monkeypatch.setattr(_glyph_cache, "shipped_characters", lambda: codes)
    benchmark = GlyphBenchmark("B0-Inc4", n_classes=12, cache_dir=tmp_path)
    images = glyph_images(tmp_path)
    for task in range(3):
        for image, label, *_ in benchmark.test_stream[task].dataset:
            own = images.test[benchmark.class_order[label]]
            grey = ((image + 1) * 127.5).round().to(torch.uint8).numpy()
            assert (grey[0] == grey[1]).all()
            assert any((grey[0] == candidate).all() for candidate in own)
