"""Suites: from a file to runs, and from an interruption to the end."""

from __future__ import annotations

import json
import re
import textwrap
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import wrong_settings
from short_runs import comparable

import avalanche_care
from avalanche_care import CaREConfig
from avalanche_care.checked import ConfigError
from avalanche_care.experiments import RunResult, _suite_bar
from avalanche_care.experiments.engines import Job, Outcome, execute
from avalanche_care.experiments.engines import job as job_module
from avalanche_care.experiments.suite import Suite, SuiteStopped, read_suite, run_suite
from avalanche_care.experiments.suite_list import read_suite_lists, write_suite_list
from avalanche_care.strategies.registry import available_methods

EXAMPLES = Path(avalanche_care.__file__).parents[1] / "examples" / "suites"
TINY = """
methods = "simplecil"
seeds = [1, 2]
[benchmarks]
name = "glyphs"
protocol = "B0-Inc1"
n_classes = 2
"""


def suite(tmp_path: Path, text: str = TINY) -> Suite:
    path = tmp_path / "tiny.toml"
    path.write_text(text)
    return read_suite(path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_the_examples_have_all_methods_and_three_seeds(path: Path) -> None:
    read = read_suite(path)
    assert read.name == path.stem
    asked = [(run.seed, run.method) for run in read.runs]
    assert asked == [(seed, method) for seed in (1, 2, 3) for method in available_methods()]


def test_a_file_stands_for_all_combinations(tmp_path: Path) -> None:
    read = suite(
        tmp_path,
        """
        name = "all sorts"
        methods = ["care", "simplecil"]
        seeds = [5, 3]
        [[benchmarks]]
        name = "glyphs"
        protocol = ["B0-Inc10", "B0-Inc5"]
        class_order = [1993, "natural"]
        [[benchmarks]]
        name = "omnibenchmark1k"
        protocol = "B100-Inc3"
        transforms = "care"
        [[backbones]]
        name = "glyph_vit_micro"
        img_size = [32, 64]
        [settings]
        care = [{}, {lr = 0.25, brmoe = {top_k = 5}}]
        [evaluation]
        every = 2
        [run]
        device = "cuda"
        """,
    )
    assert read.name == "all sorts"
    glyphs = [
        ("glyphs", protocol, order)
        for protocol in ("B0-Inc10", "B0-Inc5")
        for order in (1993, "natural")
    ]
    omni = [("omnibenchmark1k", "B100-Inc3", "published")]
    assert [
        (
            run.seed,
            (run.benchmark.name, run.benchmark.protocol, run.benchmark.class_order),
            run.backbone.img_size,
            run.method,
            run.settings.lr == 0.25 if run.method == "care" else None,
        )
        for run in read.runs
    ] == [
        (seed, benchmark, size, method, changed)
        for seed in (5, 3)
        for benchmark in glyphs + omni
        for size in (32, 64)
        for method, changed in (("care", False), ("care", True), ("simplecil", None))
    ]
    assert {(run.evaluation.every, run.device) for run in read.runs} == {(2, "cuda")}
    write_suite_list(read, tmp_path)
    assert {planned.eval_every for planned in read_suite_lists(tmp_path)} == {2}
    published = [run for run in read.runs if run.benchmark.name == "omnibenchmark1k"]
    assert {run.benchmark.transforms for run in published} == {"care"}
    assert published[0].settings == CaREConfig.preset("omnibenchmark1k/B100-Inc3")


def test_the_documented_file_can_be_read(tmp_path: Path) -> None:
    text = (EXAMPLES.parents[1] / "docs" / "suites.rst").read_text(encoding="utf-8")
    (block,) = re.findall(r"code-block:: toml\n\n((?:    .*\n|\n)+)", text)
    read = suite(tmp_path, textwrap.dedent(block))
    assert read.name == "long sequences"
    assert len(read.runs) == 3 * (2 + 3) * 2
    care = [run.settings for run in read.runs if run.method == "care"]
    assert {(settings.epochs, settings.brmoe.top_k) for settings in care} == {(10, 5)}


def test_what_is_left_out(tmp_path: Path) -> None:
    (run,) = suite(tmp_path, 'methods = "care"\nbenchmarks = {}').runs
    assert (run.method, run.seed, run.benchmark.name) == ("care", 1, "glyphs")
    assert run.backbone.name == "glyph_vit_micro"
    everything = suite(tmp_path, 'methods = "all"\nseeds = 7\nbenchmarks = {}')
    assert [(run.method, run.seed) for run in everything.runs] == [
        (method, 7) for method in available_methods()
    ]
    assert everything.name == "tiny"  # of the file


def test_everything_that_is_wrong_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"tiny\.toml cannot be used") as info:
        suite(
            tmp_path,
            """
            methods = ["care", "simplcil", "care"]
            seeds = [1, "two"]
            benchmarc = 1
            [[benchmarks]]
            name = "glyph"
            protocol = ["B0-Inc10", "10x10", "B0-Inc0"]
            [[benchmarks]]
            name = "cifar100"
            protocol = "B0-Inc200"
            classes = 4
            class_order = []
            [[benchmarks]]
            name = "cifar100"
            protocol = "B0-Inc200"
            [[backbones]]
            image_size = 32
            [settings]
            care = {epoch = 3}
            l2p = {}
            [evaluation]
            every = 0
            [run]
            seed = 3
            devise = "cpu"
            eval_every = 3
            """,
        )
    lines = str(info.value).split("\n- ")[1:]
    expected = [
        "benchmarc: there is no such setting; did you mean 'benchmarks'?",
        "methods: there is no method 'simplcil'; did you mean 'simplecil'?",
        "methods: has 'care' more than once",
        "benchmarks[0].name: no benchmark is called 'glyph', did you mean 'glyphs'?",
        "benchmarks[0].protocol: a protocol is written B{base}-Inc{increment}",
        "benchmarks[0].protocol: increment must be an integer of at least 1, got 0",
        "benchmarks[1].class_order: is an empty list",
        "benchmarks[2]: increment=200 is more than the 100 classes",
        "backbones.image_size: there is no such setting; did you mean 'img_size'?",
        "settings.care.epoch: there is no such setting; did you mean 'epochs'?",
        "settings.l2p: is for a method that the suite does not have",
        "run.seed: belongs in seeds",
        "run.devise: there is no such setting; did you mean 'device'?",
        "seeds.1: must be a valid integer, got 'two'",
        "run.eval_every: there is no such setting; did you mean 'evaluation.every'?",
        "evaluation.every: must be at least 1, got 0",
    ]
    for start in expected:
        assert [line for line in lines if line.startswith(start)], start
    assert len(lines) == len(set(lines)) == len(expected)


@pytest.mark.parametrize(
    ("values", "lines"),
    wrong_settings.one_right(wrong_settings.SUITE),
    ids=["", *wrong_settings.SUITE],
)
def test_every_problem_is_reported_once(
    values: dict[str, Any], lines: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"tiny\.toml cannot be used") as info:
        suite(tmp_path, wrong_settings.toml(values))
    wrong_settings.check(list(info.value.problems), lines)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seeds = [1]\nbenchmarks = {}", "methods: is missing"),
        ('methods = "care"', "benchmarks: is missing"),
        ('methods = 3\nbenchmarks = {}\nseeds = "x"', "methods: must be a list"),
        ('methods = "care"\nbenchmarks = {}\nseeds = "x"', "seeds: must be a list"),
        ('methods = "care"\nbenchmarks = {}\nseeds = [true]', "seeds.0: must be"),
        ('methods = "care"\nbenchmarks = ["glyphs"]', "benchmarks.0: must be a table"),
        ('methods = "care"\nbenchmarks = {}\nseeds = []', "has no runs"),
        ("methods = []\nbenchmarks = {}", "has no runs"),
        ('methods = "care"\nbenchmarks = {}\nseeds = -1', "seeds: must be at least 0, got -1"),
        ('methods = "care"\nbenchmarks = {}\nevaluation = {every = 0}', "evaluation.every: must"),
        ('methods = "care"\nbenchmarks = {}\nsettings = {care = 3}', "must be a table, or several"),
        (
            'methods = "care"\nbenchmarks = {}\nsettings = {care = {lr = "x"}}',
            "settings.care.lr: must be",
        ),
        (
            'methods = "care"\nbenchmarks = {}\nsettings = {care = {preset = "vtab"}}',
            "settings.care.preset: there is no CaRE preset 'vtab'; expected",
        ),
        (
            'methods = "care"\nbenchmarks = {}\nsettings = {care = [{}, {preset = "none"}]}',
            "is asked for 2 times",
        ),
        ('methods = "care"\nbenchmarks = [{}, {name = "glyphs"}]', "is asked for 2 times"),
        ('methods = "care"\nbenchmarks = {}\nseeds = [1, 1]', "seeds: has 1 more than once"),
        (
            'methods = "care"\nbenchmarks = {name = "folders"}',
            "benchmarks.name: for two directories",
        ),
        ("methods = [", "is not a TOML file"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"tiny\.toml") as info:
        suite(tmp_path, text)
    assert problem in str(info.value)


class Engine:
    """Does what a function says, in place of a run."""

    def __init__(self, work: Any = execute) -> None:
        self.work, self.jobs, self.closed = work, list[str](), False

    def run(self, jobs: Sequence[Job]) -> Generator[Outcome, None, None]:
        try:
            for job in jobs:
                self.jobs.append(job.name)
                yield self.work(job)
        finally:
            self.closed = True


def test_what_is_complete_is_not_run_again(tmp_path: Path) -> None:
    tiny = suite(tmp_path)
    names = [run.directory_name for run in tiny.runs]
    ended: list[Any] = []
    report = run_suite(tiny, tmp_path / "out", progress=False, on_end=ended.append)
    assert [run.status for run in report.runs] == ["complete"] * 2
    assert ended == list(report.runs)
    assert [run.directory.name for run in ended] == names
    assert str(report) == f"suite tiny: 2 runs in {tmp_path / 'out'}: 2 complete, 0 failed, 0 left"
    results = {name: (tmp_path / "out" / name / "result.json").read_bytes() for name in names}

    again, engine = tmp_path / "tiny.toml", Engine()
    report = run_suite(again, tmp_path / "out", engine=engine, progress=False)
    assert engine.jobs == []
    assert "2 complete (2 of them before), 0 failed" in str(report)
    (tmp_path / "out" / names[1] / "result.json").write_text("{")
    report = run_suite(again, tmp_path / "out", engine=engine, progress=False)
    assert engine.jobs == [names[1]]
    assert [run.status for run in report.runs] == ["complete", "failed"]
    assert "result.json is not a JSON file" in str(report)  # a person has to look at that
    assert (tmp_path / "out" / names[0] / "result.json").read_bytes() == results[names[0]]


def test_a_failure_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = suite(tmp_path, TINY.replace("[1, 2]", "[1, 2, 3]"))
    original = job_module.run

    def fail(config: Any, *args: Any, **kwargs: Any) -> Any:
        if config.seed != 2:
            raise RuntimeError("the roof\nfell in")
        return original(config, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(job_module, "run", fail)
        report = run_suite(tiny, tmp_path / "out", progress=False)
    assert [run.status for run in report.runs] == ["failed", "complete", "failed"]
    first = report.runs[0]
    assert str(report).splitlines() == [
        f"suite tiny: 3 runs in {tmp_path / 'out'}: 1 complete, 2 failed, 0 left",
        f"- failed: {first.directory.name} and 1 more: RuntimeError: the roof fell in",
    ]
    note = json.loads((first.directory / "failed.json").read_text())
    assert note["error"] == "RuntimeError: the roof fell in"
    assert "in fail" in note["traceback"]
    assert (note["run"]["method"], note["run"]["seed"]) == ("simplecil", 1)

    once_more = Suite("tiny", tiny.runs[:2])  # what failed is tried again
    report = run_suite(once_more, tmp_path / "out", progress=False)
    assert [(run.status, run.before) for run in report.runs] == [
        ("complete", False),
        ("complete", True),
    ]
    failures = list((tmp_path / "out").glob("*/failed.json"))
    assert [path.parent for path in failures] == [tmp_path / "out" / tiny.runs[2].directory_name]


def test_stopped_and_started_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from avalanche_care.experiments.directory import RunDirectory

    tiny = suite(tmp_path)
    run_suite(tiny, tmp_path / "whole", progress=False)
    events = iter(range(100))
    original = RunDirectory.log

    def stop(self: RunDirectory, event: Any) -> None:
        original(self, event)
        if next(events) == 2:  # of two runs with two tasks: in the second one
            raise KeyboardInterrupt

    engine = Engine()
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "log", stop)
        with pytest.raises(KeyboardInterrupt, match="start it again") as info:
            run_suite(tiny, tmp_path / "out", engine=engine, progress=False)
    assert isinstance(info.value, SuiteStopped)
    assert engine.closed
    assert [run.status for run in info.value.report.runs] == ["complete", "left"]
    assert "1 complete, 0 failed, 1 left" in str(info.value)
    second = info.value.report.runs[1].directory
    assert not (second / "failed.json").exists()
    before = (second / "events.jsonl").read_text()
    assert before.count("\n") == 1

    report = run_suite(tiny, tmp_path / "out", progress=False)
    assert [run.before for run in report.runs] == [True, False]
    for run in report.runs:
        whole = RunResult.load(tmp_path / "whole" / run.directory.name / "result.json")
        assert comparable(RunResult.load(run.directory / "result.json")) == comparable(whole)


def test_what_another_process_runs_is_left(tmp_path: Path) -> None:
    def busy(job: Job) -> Outcome:
        return Outcome(job, "busy", "another process is running in it")

    report = run_suite(suite(tmp_path), tmp_path / "out", engine=Engine(busy), progress=False)
    assert [run.status for run in report.runs] == ["left"] * 2
    assert "- left: " in str(report)
    assert "and 1 more: another process is running" in str(report)


def test_one_line_for_the_whole_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_suite_bar, "PERIOD", 0.01)
    tiny = suite(tmp_path, TINY.replace("[1, 2]", "[1, 2, 3]"))
    run_suite(Suite("one", tiny.runs[:1]), tmp_path / "out", progress=False)
    capsys.readouterr()
    parts: list[float] = []

    def half(job: Job) -> Outcome:
        config = json.loads((tmp_path / "out" / names[0] / "config.json").read_text())
        job.directory.mkdir()
        (job.directory / "config.json").write_text(json.dumps(config))
        (job.directory / "events.jsonl").write_text('{"task": 0}\n{"ta')
        parts.append(_suite_bar.part_done(job.directory))
        time.sleep(0.3)  # long enough to be noticed
        return Outcome(job, "complete" if job.name == names[1] else "failed")

    names = [run.directory_name for run in tiny.runs]
    run_suite(tiny, tmp_path / "out", engine=Engine(half))
    shown = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert parts == [0.5, 0.5]
    assert "1.0/3 runs" in next(line for line in shown if line)
    assert [line for line in shown if "1.5/3 runs" in line]
    assert "3.0/3 runs" in shown[-1]
    assert "1 failed" in shown[-1]
    assert {line.split(":")[0] for line in shown if line} == {"tiny"}
    assert _suite_bar.part_done(tmp_path / "nowhere") == 0.0
    run_suite(
        tiny,
        tmp_path / "quiet",
        engine=Engine(lambda job: Outcome(job, "complete")),
        progress=False,
    )
    assert capsys.readouterr().err == ""
