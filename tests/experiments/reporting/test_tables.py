"""Tables and the formats that they are written in."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

from avalanche_care.experiments.reporting.markdown import Footnotes, Links, figure, to_markdown
from avalanche_care.experiments.reporting.table_writers import to_csv, to_latex
from avalanche_care.experiments.reporting.tables import (
    Column,
    Run,
    Table,
    TableCell,
    footnotes,
    href,
    mark_best,
    to_rst,
)

HOSTILE = r"a_b|c*[d](e)<f>&g%h$i#j{k}l~m^n\o`p"
RUNS = tuple(Run(str(seed), Path("runs") / f"care-{seed}", 60.0 + seed) for seed in (1, 2))


def example(*, name: str = "care") -> Table:
    """Two rows, with everything that a cell can have."""
    columns = (
        Column("method", number=False),
        Column("seeds", number=False),
        Column("ours", "A_last (%)", better="high"),
        Column("difference", "A_last (%)", sign=True),
        Column("parameters", digits=0),
    )
    rows = (
        (
            TableCell(name, notes=("one",)),
            TableCell(runs=RUNS, listed=True),
            TableCell(value=61.504, std=0.7071, runs=RUNS, notes=("two", "one")),
            TableCell(value=-1.236),
            TableCell(value=1234567, runs=RUNS),
        ),
        (
            TableCell("simplecil"),
            TableCell(runs=RUNS[:1], listed=True),
            TableCell(value=60.0, runs=RUNS[:1]),
            TableCell("–"),
            TableCell("failed", runs=RUNS[:1]),
        ),
    )
    return mark_best(Table("example", "Title", columns, rows, "Caption.", ("general",)))


def column_of(better: str, *cells: TableCell) -> list[bool]:
    table = Table("t", "t", (Column("x", better=better),), tuple((cell,) for cell in cells))
    return [row[0].best for row in mark_best(table).rows]


def test_the_best_of_a_column() -> None:
    low, same, high = TableCell(value=1.0), TableCell(value=2.004), TableCell(value=2.0)
    assert column_of("high", low, same, high) == [False, True, True]  # both show 2.00
    assert column_of("low", low, same, high) == [True, False, False]
    assert column_of("", low, high) == [False, False]
    assert column_of("high", high, TableCell("failed")) == [False, False]  # best of one
    above = TableCell(value=9.0, ranked=False)
    assert column_of("high", low, above, high) == [False, False, True]
    assert column_of("high", above, high) == [False, False]


def test_rows_must_fit() -> None:
    with pytest.raises(ValueError, match=r"'t' has 1 columns; rows \[1\] have another"):
        Table("t", "t", (Column("x"),), ((TableCell(),), (TableCell(), TableCell())))


def test_text() -> None:
    assert to_rst(example()).split("\n") == [
        "=========  =====  ================  ======================  ==========",
        "method     seeds  A_last (%): ours  A_last (%): difference  parameters",
        "=========  =====  ================  ======================  ==========",
        "care       1, 2       61.50 ± 0.71                   -1.24   1,234,567",
        "simplecil  1                 60.00                       –      failed",
        "=========  =====  ================  ======================  ==========",
    ]


def test_markdown() -> None:
    links = Links(Path("report"))
    lines = to_markdown(example(), links).split("\n")
    assert lines[:3] == ['<a id="example"></a>', "", "## Title"]
    assert lines[6].startswith(r"| method | seeds | A\_last (%): ours |")
    assert lines[7] == "| --- | --- | ---: | ---: | ---: |"
    assert lines[8] == (
        "| care <sup>a</sup> | [1][r1], [2][r2] | [**61.50 ± 0.71**][s1] <sup>b, a</sup> "
        "| -1.24 | [1,234,567][s1] |"
    )
    assert lines[9] == "| simplecil | [1][r1] | [60.00][r1] | – | [failed][r1] |"
    assert lines[11:14] == ["- <sup>a</sup> one", "- <sup>b</sup> two", "- general"]
    assert links.lines().split("\n") == [
        "## Runs behind the means",
        "",
        '- <a id="s1"></a>s1: [care-1][r1], [care-2][r2]',
        "",
        "[s1]: #s1",
        "[r1]: ../runs/care-1",
        "[r2]: ../runs/care-2",
        "",
    ]


def test_a_place_has_one_label() -> None:
    web = Run("lou2026care", "https://arxiv.org/abs/2602.03473")
    other = Run("1", Path("runs") / "a b")
    links = Links(Path("report"), [other])
    assert [links.to(run) for run in (RUNS[0], web, other, RUNS[0])] == ["r2", "w1", "r1", "r2"]
    assert links.to_all([other, RUNS[0]]) == links.to_all([other, RUNS[0], Run("9", "")]) == "s1"
    assert links.to_all([other, RUNS[1]]) == "s2"
    assert links.to_all([Run("9", ""), web]) == "w1"
    assert (links.to(Run("9", "")), links.to_all([])) == ("", "")
    assert "[r1]: ../runs/a%20b\n" in links.lines()
    assert "[w1]: https://arxiv.org/abs/2602.03473\n" in links.lines()


def test_footnotes_of_a_setting_are_said_once() -> None:
    def table(name: str, *notes: str) -> Table:
        cells = tuple((TableCell("x", notes=(note,)),) for note in notes)
        return Table(name, f"Table {name}", (Column("x"),), cells)

    links, footnotes = Links(Path("report")), Footnotes()
    first, second, third = (
        to_markdown(t, links, footnotes).split("\n")
        for t in (table("one", "p", "q"), table("two", "r", "q", "p"), table("three", "q", "r"))
    )
    assert first[-3:-1] == ["- <sup>a</sup> p", "- <sup>b</sup> q"]
    assert [row for row in second if row.startswith("| x")] == [
        "| x |",
        "| x <sup>c</sup> |",
        "| x <sup>b</sup> |",
        "| x <sup>a</sup> |",
    ]
    assert second[-3:-1] == ["- <sup>c</sup> r", "- <sup>b, a</sup> see [Table one](#one)"]
    assert third[-3:-1] == [
        "- <sup>b</sup> see [Table one](#one)",
        "- <sup>c</sup> see [Table two](#two)",
    ]
    assert '<a id="one"></a>' in first
    alone = to_markdown(table("two", "r", "q"), links)  # of no setting
    assert alone.endswith("- <sup>a</sup> r\n- <sup>b</sup> q\n")


def test_a_figure_in_markdown_names_its_runs() -> None:
    links = Links(Path("report"))
    tables = [("one", "Table [one]"), ("two", "Table two")]
    text = figure("A [b]", "Caption_.", "f/a.png", tables, [("care", RUNS), ("x", RUNS[:1])], links)
    assert text.split("\n\n") == [
        r"### A \[b\]",
        r"![A \[b\]](f/a.png)",
        r"Caption\_.",
        r"Runs: all complete runs of [Table \[one\]](#one); all complete runs of "
        "[Table two](#two); care, seeds [1][r1], [2][r2]; x, seed [1][r1].\n",
    ]
    assert "Runs" not in figure("A", "Caption.", "f/a.png", [], [], links)


def test_markdown_takes_any_name() -> None:
    row = to_markdown(example(name=HOSTILE), Links(Path("report"))).split("\n")[8]
    cells = re.split(r"(?<!\\)\|", row)
    assert len(cells) == 5 + 2
    name = cells[1].removesuffix(" <sup>a</sup> ").strip()
    assert re.sub(r"\\(.)", r"\1", name) == HOSTILE
    assert not re.search(r"(?<!\\)[`*_<>\[\]]", name)


def test_csv_is_not_rounded() -> None:
    header, first, second = csv.reader(io.StringIO(to_csv(example(name=HOSTILE), Path("out"))))
    assert header == [
        "method",
        "seeds",
        "A_last (%): ours",
        "A_last (%): ours, standard deviation",
        "A_last (%): difference",
        "parameters",
        "runs",
        "notes",
    ]
    paths = "../runs/care-1; ../runs/care-2"
    assert first == [
        HOSTILE,
        "1, 2",
        "61.504",
        "0.7071",
        "-1.236",
        "1234567",
        paths,
        "one; two",
    ]
    assert second == ["simplecil", "1", "60", "", "–", "failed", "../runs/care-1", ""]


@pytest.mark.parametrize("name", ["care", HOSTILE])
def test_latex_is_well_formed(name: str) -> None:
    text = to_latex(example(name=name), Path("report"))
    code = "\n".join(re.sub(r"(?<!\\)%.*", "", line) for line in text.split("\n"))
    bare = re.sub(r"\\[\\{}&%$#_]", "", code)  # without what is escaped
    assert bare.count("{") == bare.count("}")
    depth = 0
    for character in bare:
        depth += (character == "{") - (character == "}")
        assert depth >= 0
    assert bare.count("$") % 2 == 0
    assert not re.search(r"[#_~^<>±–]", bare)
    begun = re.findall(r"\\begin\{(\w+)\}", text)
    assert sorted(begun) == sorted(re.findall(r"\\end\{(\w+)\}", text)) == ["table", "tabular"]
    columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
    assert columns is not None
    assert columns[1] == "llrrr"
    for row in [line for line in code.split("\n") if line.rstrip().endswith(r"\\")]:
        cells = re.split(r"(?<!\\)&", row)
        wide = sum(int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", row))
        assert len(cells) + wide == 5


def test_latex() -> None:
    text = to_latex(example(), Path("report"))
    assert r"\multicolumn{2}{c}{} & \multicolumn{2}{c}{A\_last (\%)} & \multicolumn{1}{c}{}" in text
    assert r"\cmidrule(lr){3-4}" in text
    assert (
        r"care\textsuperscript{a} & 1, 2 & \textbf{61.50 $\pm$ 0.71}\textsuperscript{b, a} & "
        r"$-$1.24 & 1,234,567 \\ % ../runs/care-1 % ../runs/care-2" in text
    )
    assert r"simplecil & 1 & 60.00 & -- & failed \\ % ../runs/care-1" in text
    assert "\n\\textsuperscript{b} two.\n" in text


def test_more_footnotes_than_letters() -> None:
    cells = tuple((TableCell("x", notes=(f"note {i}",)),) for i in range(30))
    marks = footnotes(Table("t", "t", (Column("x"),), cells))
    assert [marks[f"note {i}"] for i in (0, 25, 26, 29)] == ["a", "z", "aa", "ad"]


def test_links_are_relative_and_fit_for_a_page(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "lr 50%#1"
    assert href(run, tmp_path / "report") == "../runs/lr%2050%25%231"
    assert href("https://arxiv.org/abs/2602.03473", tmp_path) == "https://arxiv.org/abs/2602.03473"
