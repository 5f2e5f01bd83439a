"""A run of CaRE records which routers its test images select, and a report shows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from short_runs import short_run

from avalanche_care.experiments import write_report
from avalanche_care.experiments.routing import ROUTING, RoutingUsage


def test_routing_is_recorded_and_reported(tmp_path: Path) -> None:
    directory = tmp_path / "runs" / "care"
    result = short_run("care", directory)
    usage = RoutingUsage.load(directory / ROUTING)
    assert result.extra["routing"] == usage.summary()
    assert usage.images.tolist() == [12, 12, 12]  # two classes of six images
    assert short_run("care").extra["routing"] == usage.summary()  # also without a directory
    page = write_report(tmp_path / "runs", tmp_path / "report")
    drawn = {path.name for path in (page.parent / "figures").glob("*.png")}
    for kind in ("recall", "routers", "experts", "usage"):
        assert len([name for name in drawn if name.endswith(f"-{kind}.png")]) == 1, kind
    assert "Routers selected" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("method", ["simplecil", "finetune"])
def test_methods_without_routers_have_none(method: str, tmp_path: Path) -> None:
    assert "routing" not in short_run(method, tmp_path).extra
    assert not (tmp_path / ROUTING).exists()
