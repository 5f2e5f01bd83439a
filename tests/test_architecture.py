"""Who may import whom, what an import costs, and that everything public is documented."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import avalanche_care

ROOT = Path(avalanche_care.__file__).parent
SOURCES = {
    ".".join(("avalanche_care", *path.relative_to(ROOT).with_suffix("").parts)): path.read_text(
        encoding="utf-8"
    )
    for path in sorted(ROOT.rglob("*.py"))
}
"""Dotted name of every module ("avalanche_care.nn.__init__" for packages) and its text."""

LAYERS = (
    {"_version", "_lazy", "_files", "checked"},
    {"memory", "offload"},
    {"nn", "losses", "metrics", "statistics"},
    {"alignment"},
    {"benchmarks", "plugins"},
    {"strategies"},
    {"experiments"},
    {"cli_data", "cli_runs"},
    {"cli"},
    {"__main__"},
)
"""The rooms of the package. Each may use itself and the layers before its own."""

MAY_IMPORT = {
    room: {room}.union(*LAYERS[:depth]) for depth, layer in enumerate(LAYERS) for room in layer
}
WITHOUT_AVALANCHE = {room for layer in LAYERS[:4] for room in layer}


def imports(source: str) -> Iterator[str]:
    """Dotted names that a module imports anywhere, inside functions and for types included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def forbidden(module: str, source: str) -> list[str]:
    """What a module imports against the rules."""
    room = module.split(".")[1]
    found = []
    for name in imports(source):
        top, *rest = name.split(".")
        if top == "":
            found.append(name)  # relative: the rules below could not tell where it leads
        elif top == "avalanche_care" and room != "__init__":
            other = rest[0] if rest else ""
            if other not in MAY_IMPORT[room]:
                found.append(name)
        elif top == "avalanche" and room in WITHOUT_AVALANCHE:
            found.append(name)
    return found


@pytest.mark.parametrize("module", SOURCES)
def test_imports_point_one_way(module: str) -> None:
    assert forbidden(module, SOURCES[module]) == []


def test_the_package_is_where_the_sources_are_read() -> None:
    assert {name.split(".")[1] for name in SOURCES} == {*MAY_IMPORT, "__init__"}


@pytest.mark.parametrize(
    ("module", "line", "fine"),
    [
        ("nn.vit", "from avalanche_care.nn.weights import build_vit", True),
        ("nn.vit", "import torch, timm", True),
        ("nn.bank", "from avalanche_care.offload import Offload", True),
        ("nn.vit", "import torch, avalanche.core", False),
        ("nn.vit", "from avalanche.core import BasePlugin", False),
        ("nn.vit", "from avalanche_care import plugins", False),
        ("nn.vit", "from avalanche_care import CaREStrategy", False),
        ("nn.vit", "import avalanche_care", False),
        ("nn.vit", "from . import weights", False),
        ("losses", "from avalanche_care.statistics import ClassGaussians", False),
        ("statistics", "from avalanche_care.alignment import align_head", False),
        ("alignment", "from avalanche_care.plugins.alignment import DECAYS", False),
        ("losses", "def f():\n    from avalanche_care.strategies import care", False),
        ("plugins.ema", "from avalanche_care.benchmarks import Protocol", False),
        ("strategies.care", "from avalanche_care.plugins.ema import RULES", True),
        ("strategies.care", "import avalanche_care.experiments.run", False),
        ("experiments.run", "from avalanche_care import metrics", True),
        ("experiments.run", "from avalanche_care._version import __version__", True),
        ("experiments.run", "from avalanche_care import cli", False),
        ("experiments.run", "import avalanche_care.cli_data", False),
        ("cli_data", "from avalanche_care.benchmarks.pack import pack_folder", True),
        ("cli_data", "from avalanche_care.cli import main", False),
        ("cli", "from avalanche_care.experiments import run_method", True),
    ],
)
def test_the_rules_themselves(module: str, line: str, fine: bool) -> None:
    assert (forbidden(f"avalanche_care.{module}", line) == []) is fine


CLI_HELP = """
import avalanche_care.cli as cli
for argv in (
    ["--help"],
    ["--version"],
    ["demo", "--help"],
    ["data", "--help"],
    *(["data", name, "--help"] for name in "download verify info import curate pack".split()),
):
    try:
        cli.main(argv)
    except SystemExit as end:
        assert not end.code
"""


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import avalanche_care; dir(avalanche_care)", {"torch", "avalanche", "numpy"}),
        (CLI_HELP, {"torch", "avalanche", "numpy"}),
        ("import avalanche_care.nn", {"avalanche"}),
        ("import avalanche_care.losses, avalanche_care.statistics", {"avalanche"}),
        ("import avalanche_care.alignment, avalanche_care.offload", {"avalanche"}),
        ("import avalanche_care.metrics", {"torch", "avalanche"}),
        ("import avalanche_care.benchmarks.protocol", {"torch", "avalanche"}),
        ("from avalanche_care.benchmarks import Protocol", {"torch", "avalanche"}),
        ("from avalanche_care.benchmarks import PackedImages, pack_folder", {"avalanche"}),
        ("from avalanche_care.experiments import RunResult", {"torch", "avalanche"}),
        ("from avalanche_care.experiments import results_table", {"torch", "avalanche"}),
        ("import avalanche_care.experiments.suite", {"torch", "avalanche", "joblib", "ray"}),
        ("from avalanche_care.experiments import write_report", {"torch", "avalanche"}),
        ("from avalanche_care.benchmarks import CARDS, DatasetRecord", {"torch", "avalanche"}),
        ("import avalanche_care.benchmarks.transforms", {"avalanche"}),
        ("from avalanche_care import load; load", {"avalanche"}),
        (
            "from avalanche_care.experiments.published import published",
            {"torch", "avalanche", "numpy"},
        ),
    ],
)
def test_what_an_import_costs(code: str, unwanted: set[str]) -> None:
    code += f"\nimport sys; print(sorted({unwanted!r} & set(sys.modules)), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("room", ["", ".benchmarks", ".experiments", ".strategies"])
def test_lazy_names_resolve(room: str) -> None:
    module = importlib.import_module(f"avalanche_care{room}")
    assert set(module._HOMES) | set(module.__all__) <= set(dir(module))
    for name in dir(module):
        assert getattr(module, name) is not None or name.startswith("__"), name
    with pytest.raises(AttributeError, match="has no attribute 'CaRRE'"):
        _ = module.CaRRE


def public_parts(source: str) -> Iterator[tuple[str, ast.AST]]:
    """The module itself, and its public classes, functions and methods."""
    tree = ast.parse(source)
    yield "the module", tree
    pending = [("", node) for node in tree.body]
    while pending:
        prefix, node = pending.pop()
        if not isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if node.name.startswith("_"):
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            pending += [(f"{prefix}{node.name}.", part) for part in node.body]


@pytest.mark.parametrize("module", SOURCES)
def test_everything_public_has_a_docstring(module: str) -> None:
    parts = public_parts(SOURCES[module])
    assert [name for name, node in parts if not ast.get_docstring(node)] == []  # type: ignore[arg-type]
