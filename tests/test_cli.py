"""The command line: what it lists, what it writes, and how it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from avalanche_care.cli import main

METHODS = [
    "care",
    "simplecil",
    *(f"aper-{kind}" for kind in ("adapter", "ssf", "vpt-shallow", "vpt-deep", "finetune")),
    "ease",
    "ranpac",
    "l2p",
    "dualprompt",
    "coda-prompt",
    "fsa",
    "fetril",
    "joint",
    "replay",
    "lwf",
    "ewc",
    "slda",
    "finetune",
]


def test_methods_lists_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == METHODS


def test_python_dash_m_is_the_command() -> None:
    command = [sys.executable, "-m", "avalanche_care", "methods", "--wrong"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "unrecognized arguments: --wrong" in done.stderr


def test_the_order_of_methods_is_not_that_of_imports() -> None:
    code = (
        "from avalanche_care.strategies import finetune\n"
        "from avalanche_care.strategies.registry import available_methods\n"
        "print(list(available_methods()))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == f"{METHODS}\n"


def test_benchmarks_lists_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmarks"]) == 0
    assert "glyphs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["demo", "--methods", "cara"], "there is no method 'cara'; did you mean 'care'?"),
        (["demo", "--methods", ","], "no method was named"),
        (["demo", "--tasks", "0"], "tasks must be 1 to 100"),
        (["demo", "--tasks", "101"], "tasks must be 1 to 100"),
        (["demo", "--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    assert main([*arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("avalanche-care: ")
    assert message in error
    assert len(error.splitlines()) == 1
    assert not out.exists()


def test_demo_writes_what_it_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    arguments = ["--tasks", "2", "--methods", "simplecil,finetune", "--seed", "3", "--quiet"]
    assert main(["demo", *arguments, "--out", str(out)]) == 0
    table = capsys.readouterr().out
    assert "A_last" in table
    assert "simplecil" in table
    assert (out / "table.rst").read_text(encoding="utf-8").strip() in table
    assert (out / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((out / "simplecil" / "result.json").read_text(encoding="utf-8"))
    keys = "method benchmark protocol seed class_order A_last A_avg forgetting accuracy"
    assert {*keys.split(), "accuracy_matrix", "seconds", "parameters", "versions"} <= set(result)
    assert result["seed"] == 3
    assert result["protocol"] == "B0-Inc10"
    assert len(result["accuracy"]) == 2
    assert len(result["class_order"]) == 20
    assert result["parameters"]["trainable"] == 0
    assert result["accuracy"][0] > 0.5  # ten classes, nearest mean
    first = (out / "simplecil" / "result.json").stat().st_mtime_ns
    assert main(["demo", *arguments, "--out", str(out)]) == 0  # again, over the old one
    assert (out / "simplecil" / "result.json").stat().st_mtime_ns != first
