"""The commands about runs: options, files, what is printed, and what is refused."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wrong_settings
from PIL import Image

from avalanche_care import cli
from avalanche_care.experiments import launch
from avalanche_care.experiments.command_line import SHORT
from avalanche_care.experiments.config import RunConfig, read_toml, run_config

SMALL = ["--n-classes", "4", "--protocol", "B0-Inc2", "--quiet"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Configurations that would be run; nothing is."""
    seen: list[RunConfig] = []

    def run(config: RunConfig, out: Any, **how: Any) -> Any:
        seen.append(config)
        raise ValueError("not now")

    monkeypatch.setattr(launch, "run", run)
    return seen


def test_options_become_a_configuration(asked: list[RunConfig]) -> None:
    line = "run care --benchmark omniglot --protocol B0-Inc5 --class-order 1990 --seed 3 --out x"
    line += " --backbone a.b --settings.epochs 7 --settings.brmoe.top-k=2 --settings.no-two-phases"
    assert cli.main(line.split()) == 2
    expected = run_config(
        {
            "method": "care",
            "seed": 3,
            "benchmark": {"name": "omniglot", "protocol": "B0-Inc5", "class_order": 1990},
            "backbone": {"name": "a.b"},
            "settings": {"epochs": 7, "two_phases": False, "brmoe": {"top_k": 2}},
        }
    )
    assert asked == [expected]


def test_every_short_name_is_of_an_option(asked: list[RunConfig]) -> None:
    values = {
        "--benchmark": "imagenet-r",
        "--protocol": "B0-Inc5",
        "--class-order": "natural",
        "--n-classes": "50",
        "--transforms": "pilot",
        "--img-size": "32",
    }
    words = [part for name in SHORT for part in (name, values.get(name, "text"))]
    assert cli.main(["run", "simplecil", *words]) == 2
    (config,) = asked
    assert config.benchmark.class_order == "natural"
    assert (config.benchmark.n_classes, config.backbone.img_size) == (50, 32)
    assert (config.benchmark.name, config.benchmark.transforms) == ("imagenet-r", "pilot")
    assert {config.benchmark.root, config.backbone.name, config.backbone.weights} == {"text"}


def test_the_command_line_goes_before_the_file(asked: list[RunConfig], tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(
        'method = "care"\nseed = 5\n[settings]\nlr = 0.5\nepochs = 3\n'
        '[benchmark]\nname = "vtab"\nprotocol = "B0-Inc10"\n'
    )
    assert cli.main(["run", "--config", str(path), "--settings.lr", "0.25"]) == 2
    (config,) = asked
    assert (config.seed, config.settings.epochs, config.settings.lr) == (5, 3, 0.25)
    # the rest is the preset of the benchmark
    assert config.settings.batch_size == 16
    assert config.settings.alignment_epochs == 30
    assert read_toml(path)["seed"] == 5


def test_the_preset_follows_the_benchmark_of_the_command_line(asked: list[RunConfig]) -> None:
    cli.main(["run", "care", "--benchmark", "omnibenchmark1k", "--protocol", "B100-Inc3"])
    (config,) = asked
    assert config.settings.amp == "float16"
    assert config.settings.alignment_epochs == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run", "method: is missing; 'avalanche-care methods' lists them"),
        ("run cara", "did you mean 'care'?"),
        ("run --config {toml}", "did you mean 'seed'?"),
        (
            "run finetune --config {care}",
            "method: is 'finetune' on the command line and 'care' in ",
        ),
        ("run care --config nothing.toml", "nothing.toml"),
        ("resume {tmp}", "is not the directory of a run"),
        ("export {tmp} --out {tmp}/x", "is not the directory of a run"),
        ("predict {tmp} a.png", "holds no exported model"),
    ],
)
def test_one_message(
    line: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.toml").write_text('method = "care"\nsed = 5\n')
    (tmp_path / "care.toml").write_text('method = "care"\n')
    line = line.format(toml=tmp_path / "bad.toml", care=tmp_path / "care.toml", tmp=tmp_path)
    assert cli.main(line.split()) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("run care --sed 3", "sed: there is no such setting; did you mean 'seed'?"),
        ("run care --settings.lr x", "settings.lr: must be a valid number, got 'x'"),
        ("run care --method finetune", "is 'care' on the command line and 'finetune' on the"),
        ("run --method.x care", "method: must be a valid string, got {'x': 'care'}"),
        ("run", "the command line cannot be used"),
        ("run care foo --seed=x", "'foo' is no option"),
        ("methods --sed 3", "unrecognized arguments: --sed 3"),
    ],
)
def test_bad_options(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        assert cli.main(line.split()) == 2
    captured = capsys.readouterr()
    assert message in captured.err + captured.out


@pytest.mark.parametrize(
    ("values", "lines"), wrong_settings.one_right(wrong_settings.RUN), ids=["", *wrong_settings.RUN]
)
@pytest.mark.parametrize("place", ["line", "file", "both"])
def test_every_problem_is_reported_once(
    values: dict[str, Any],
    lines: list[str],
    place: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "run.toml"
    half = {"line": 0, "file": len(values), "both": len(values) // 2}[place]
    path.write_text(wrong_settings.toml(dict([*values.items()][:half])))
    line = wrong_settings.words(dict([*values.items()][half:]))
    config = [] if place == "line" else ["--config", str(path)]
    assert cli.main(["run", "care", *line, *config]) == 2
    message = capsys.readouterr().err
    assert message.count("cannot be used:") == 1
    wrong_settings.check(wrong_settings.listed(message), lines)


def test_what_is_wrong_with_the_words_is_in_the_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.toml"
    path.write_text('method = "care"\nseed = -1\n[settings]\nepochs = "x"\n[benchmark]\nnam = 1\n')
    line = f"run finetune -q --settings 3 --settings.lr x --evaluation.every --config {path}"
    assert cli.main(line.split()) == 2
    expected = [
        "'-q' is no option; options begin with --",
        f"method: is 'finetune' on the command line and 'care' in {path}; name one",
        "benchmark.nam: there is no such setting; did you mean 'name'?",
        "evaluation.every: must be a valid integer, got True",
        "seed: must be at least 0, got -1",
    ]
    wrong_settings.check(wrong_settings.listed(capsys.readouterr().err), expected)
    line = "run simplecil --seed 3 4 --settings 3 --benchmark.name.x 3"
    assert cli.main(line.split()) == 2
    expected = [
        "settings: must be a table, got '3'",
        "benchmark.name: must be a valid string, got {'x': '3'}",
        "seed: must be a valid integer, got [3, 4]",
    ]
    wrong_settings.check(wrong_settings.listed(capsys.readouterr().err), expected)


def test_values_have_the_types_of_their_settings(asked: list[RunConfig]) -> None:
    line = "run dualprompt --settings.lr .5 --settings.pool None --settings.general-blocks 0 2"
    line += " --settings.expert-blocks=4 --class-order=1990 --wandb 3 --tensorboard"
    line += " --no-save-every-phase --seed=1 --seed 2 --evaluation.batch_size 64 --n-classes 20"
    assert cli.main(line.split()) == 2
    (config,) = asked
    settings = config.settings
    assert (settings.lr, settings.pool) == (0.5, None)
    assert (settings.general_blocks, settings.expert_blocks) == ((0, 2), (4,))
    assert (config.benchmark.class_order, config.wandb) == (1990, "3")
    assert (config.tensorboard, config.save_every_phase) == (True, False)
    assert (config.seed, config.evaluation.batch_size) == (2, 64)


@pytest.mark.parametrize("method", ["care", "dualprompt", "fsa"])
def test_every_option_in_the_help_is_understood(
    method: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", method, "--help"])
    lines = [line.strip("│| ") for line in capsys.readouterr().out.splitlines()]
    options = (line for line in lines if line.startswith("--"))
    shown = {word for line in options for word in re.findall(r"--[a-z][a-z0-9.-]*", line)}
    fields = dataclasses.asdict(run_config({"method": method}))
    del fields["method"]  # checked apart
    known = {f"--{path}".replace("_", "-") for path in paths(fields)}
    assert known <= shown - {"--method"}
    assert len(shown) < 2 * len(known)
    assert cli.main(["run", method, *sorted(shown - {"--method"})]) == 2
    assert "there is no such setting" not in capsys.readouterr().err


def paths(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from paths(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_help_does_not_mind_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "care", "--seed", "-1", "--help"])
    assert not end.value.code
    assert "--settings.alignment-epochs" in capsys.readouterr().out
    assert cli.main(["run", "cara", "--help"]) == 2
    assert "did you mean 'care'?" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--help"]) == 0
    assert "--dry-run" in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "care", "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    assert "--settings.alignment-epochs" in text
    assert "epochs of classifier alignment" in " ".join(text.replace("│", " ").split())


def test_a_dry_run_runs_nothing(
    tmp_path: Path, asked: list[RunConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs"
    line = ["run", "finetune", *SMALL, "--dry-run", "--out", str(out), "--settings.epochs", "3"]
    assert cli.main(line) == 0
    text = capsys.readouterr().out
    assert not asked
    assert not out.exists()
    # 3 epochs of 4 classes with 30 images; 8 test images of 2 classes, then of 4
    assert "360 in gradient steps (all epochs), 48 in evaluation" in text
    assert '"epochs": 3' in text
    assert "glyphs, B0-Inc2: 4 classes in 2 tasks, class order 1993" in text


def test_run_resume_export_predict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = str(tmp_path / "runs")
    line = ["run", "simplecil", *SMALL, "--out", out, "--log-format", "jsonl"]
    assert cli.main(line) == 0
    printed = capsys.readouterr()
    events = [json.loads(row) for row in printed.out.splitlines() if row.startswith("{")]
    assert [event["task"] for event in events] == [0, 1]
    assert events[-1]["total"] == 32
    assert "A_last" in printed.out
    (directory,) = Path(out).iterdir()
    assert printed.err.splitlines()[-1] == f"directory: {directory}"
    assert cli.main(["resume", str(directory), "--quiet"]) == 0
    assert str(directory / "result.json") in capsys.readouterr().out
    exported = str(tmp_path / "model")
    assert cli.main(["export", str(directory), "--out", exported]) == 0
    Image.new("RGB", (40, 40), "white").save(tmp_path / "a.png")
    capsys.readouterr()
    assert cli.main(["predict", exported, str(tmp_path / "a.png"), "--top", "2"]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{tmp_path / 'a.png'}: ")
    assert first.count(",") >= 1
    assert not rest


def test_stopping_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def stop(*args: Any, **how: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(launch, "run", stop)
    with pytest.raises(SystemExit) as end:
        cli.main(["run", "simplecil", "--out", str(tmp_path)])
    assert end.value.code == 130
    assert "the same command goes on from here" in capsys.readouterr().err
