"""The page of a report, as text and in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from runs import made_up

from avalanche_care.experiments.report import write_report
from avalanche_care.experiments.reporting import html
from avalanche_care.experiments.reporting.tables import Column, Run, Table, TableCell, mark_best

NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on the PATH")

VOID = {"meta", "link", "img", "br"}
HOSTILE = "<script>console.error('x')</script>\"'&"


class Elements(HTMLParser):
    """Collects elements and their attributes; fails where tags are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag


def example(directory: Path) -> Table:
    """Three methods, one of which failed; two runs of the first."""
    columns = (Column("<method>", number=False), Column("A_last (%)", "group", better="high"))
    runs = tuple(Run(str(seed), directory / "runs" / f"care {seed}", 9.0 + seed) for seed in (1, 2))
    rows = (
        (TableCell(HOSTILE), TableCell(value=10.5, std=0.7, runs=runs, hint="lr = 0.1")),
        (TableCell("beta10", notes=("a & b",)), TableCell(value=-2.0, runs=runs[:1])),
        (TableCell("beta9"), TableCell("failed", runs=runs[:1])),
        (TableCell("gamma", runs=(Run("x", 'https://x.org/?a&b"'),)), TableCell(value=30.0)),
    )
    return mark_best(Table("main", "Title", columns, rows, "Caption.", ("general",)))


def whole_page(directory: Path) -> str:
    picture = directory / "figure.png"
    Image.new("RGB", (40, 20), (0, 90, 200)).save(picture)
    content = html.section(html.table(example(directory), directory), [("more", "<p>folded</p>")])
    figure = html.figure("Figure <1>", "Caption of it", picture)
    return html.page(f"Page {HOSTILE}", "Lead.", [("one", "One", content), ("two", "Two", figure)])


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    elements = Elements(whole_page(tmp_path)).found
    for tag, attributes in elements:
        assert tag not in ("iframe", "object", "embed", "video", "audio")
        loaded = attributes.get("src") or (attributes.get("href") if tag == "link" else None)
        assert loaded is None or loaded.startswith("data:")
    assert sum(tag == "script" for tag, _ in elements) == 1  # no name became one
    policy = next(a["content"] for _, a in elements if "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:")
    assert not re.search(r"url\(|@import", html.STYLE)
    assert not re.search(r"fetch|XMLHttp|import", html.SCRIPT)


def test_the_cells(tmp_path: Path) -> None:
    text = html.table(example(tmp_path), tmp_path)
    assert '<th colspan="1" class="none"></th><th colspan="1" class="group">group</th>' in text
    assert (
        '<td class="number" data-value="10.5" title="lr = 0.1"><details><summary>10.50 ± 0.70'
        '</summary><ul><li><a href="runs/care%201">seed 1: 10.00</a></li>'
        '<li><a href="runs/care%202">seed 2: 11.00</a></li></ul></details></td>'
    ) in text
    assert '<td data-value="beta10">beta10<sup>a</sup></td>' in text
    assert '<td class="number" data-value="-2.0"><a href="runs/care%201">−2.00</a></td>' in text
    assert '<td class="number problem"><a href="runs/care%201">failed</a></td>' in text
    assert '<td class="number" data-value="30.0"><strong>30.00</strong></td>' in text
    assert '<button type="button">&lt;method&gt;</button>' in text
    assert '<a href="https://x.org/?a&amp;b&quot;">gamma</a>' in text
    assert "<li><sup>a</sup> a &amp; b</li><li>general</li>" in text


def test_figures_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"figure.pdf cannot be shown .*\.svg"):
        html.figure("Title", "Caption", tmp_path / "figure.pdf")


Browse = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def browse(tmp_path: Path) -> Browse:
    """Opens a page; returns what the browser printed, and the errors on its console."""

    def run(page: Path, *options: str) -> tuple[str, list[str]]:
        assert BROWSER is not None
        command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu"]
        command += ["--enable-logging=stderr", "--v=0", f"--user-data-dir={tmp_path / 'profile'}"]
        done = subprocess.run(
            [*command, *options, page.resolve().as_uri()],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout, [line for line in done.stderr.split("\n") if "CONSOLE" in line]

    return run


@in_browser
def test_the_page_in_a_browser(tmp_path: Path, browse: Browse) -> None:
    page, shot = tmp_path / "index.html", tmp_path / "shot.png"
    page.write_text(whole_page(tmp_path), encoding="utf-8")
    _, errors = browse(page, "--window-size=1000,900", f"--screenshot={shot}")
    assert errors == []
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == (0, 90, 200)).all(1).sum() > 0.9 * 40 * 20  # the figure; corners are round
    ink = (pixels != pixels[0]).any(1).mean()
    assert 0.01 < ink < 0.5  # text on an empty ground


@in_browser
def test_a_report_of_runs_in_a_browser(tmp_path: Path, browse: Browse) -> None:
    for method in ("care", "simplecil"):
        for seed in (1, 2):
            made_up(method, seed).save(tmp_path / "runs" / f"{method}{seed}.json")
    page = write_report([tmp_path / "runs"], tmp_path / "report")
    shot = tmp_path / "shot.png"
    _, errors = browse(page, "--window-size=1000,1600", f"--screenshot={shot}")
    assert errors == []
    with Image.open(shot) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert 0.01 < (pixels != pixels[0]).any(1).mean() < 0.7
    text, errors = browse(page, "--dump-dom")
    assert errors == []
    assert "simplecil" in text
    assert "data:image" in text or "<svg" in text  # the figures are in the page


@in_browser
def test_errors_on_the_console_are_noticed(tmp_path: Path, browse: Browse) -> None:
    page = tmp_path / "index.html"
    page.write_text(whole_page(tmp_path).replace("</script>", "missing();</script>"), "utf-8")
    _, errors = browse(page, f"--screenshot={tmp_path / 'shot.png'}")
    assert len(errors) == 1
    assert "missing is not defined" in errors[0]


@in_browser
def test_columns_are_sorted_by_a_click(tmp_path: Path, browse: Browse) -> None:
    clicks = """
    const said = [];
    for (const column of [1, 1, 0]) {
      document.querySelectorAll('#table-main button')[column].click();
      said.push([...document.querySelectorAll('#table-main tbody tr')]
        .map(row => row.cells[0].textContent.slice(0, 6)).join(' '));
    }
    document.title = said.join('|');
    """
    page = tmp_path / "index.html"
    page.write_text(
        whole_page(tmp_path).replace("</script></body>", clicks + "</script></body>"), "utf-8"
    )
    text, errors = browse(page, "--dump-dom")
    assert errors == []
    title = re.search(r"<title>(.*?)</title>", text)
    assert title is not None
    assert title[1].replace("&lt;", "<").split("|") == [
        "gamma <scrip beta10 beta9",  # highest first; what has no number last
        "beta10 <scrip gamma beta9",
        "<scrip beta9 beta10 gamma",  # numbers in names by their value
    ]
    assert 'aria-sort="ascending"' in text
