"""The soak in its short form: the same run that `make soak MINUTES=10` makes, for seconds."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from testkit.reliability.lengths import LONG, ONLY_LONG
from testkit.reliability.matrix.bench import bench
from testkit.reliability.soak import BOX, HEIGHT, LEAST_FAULTS, RATE_HZ, WIDTH, Run, Sample, Soak, slope_mb_h, soak
from testkit.reliability.soak_figure import draw
from testkit.reliability.weights import write_tiny_weights

if TYPE_CHECKING:
    from pathlib import Path


def _samples(rss_mb: list[float]) -> list[Sample]:
    return [Sample(float(i), "healthy", rss, 20, 20, 30.0, i, i, i, i, 0, 1.0, 2.0) for i, rss in enumerate(rss_mb)]


def test_slope_finds_a_leak_and_ignores_a_burst() -> None:
    leak = [600 + 2.0 * second / 3600 for second in range(300)]
    assert slope_mb_h(_samples(leak)) == pytest.approx(2.0)
    burst = [600.0 + (8.0 if 100 <= second < 103 else 0.0) for second in range(300)]
    assert slope_mb_h(_samples(burst)) == 0.0


@pytest.mark.ros
@pytest.mark.timeout(600)
def test_a_short_soak_with_faults(tmp_path: Path) -> None:
    parameters = {
        "model": "sdstrack_tiny_test",
        "weights": write_tiny_weights(tmp_path / "weights.safetensors"),
        "engine": "torch/fp32",
    }
    result = soak(tmp_path, parameters, 0.4, say=lambda _: None)
    failed = [criterion for criterion in result.criteria if criterion.passed is False]
    assert not failed
    assert len(result.faults) >= LEAST_FAULTS
    assert result.answers > 50
    json.dumps(result.as_json(), allow_nan=False)
    picture = draw(result, tmp_path / "soak.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


@pytest.mark.ros
@pytest.mark.timeout(600)
@pytest.mark.skipif(not LONG, reason=ONLY_LONG)
def test_after_the_warm_up_a_busy_moment_takes_no_more_memory(tmp_path: Path) -> None:
    values = {
        "model": "sdstrack_tiny_test",
        "weights": write_tiny_weights(tmp_path / "weights.safetensors"),
        "engine": "torch/fp32",
        "autostart": True,
        "init_box": str(list(BOX)),
    }
    arguments = ("--width", str(WIDTH), "--height", str(HEIGHT), "--best-effort")
    with bench(tmp_path, values, arguments, rate_hz=RATE_HZ) as running:
        run = Run(running, Soak(1.0, 1, "sdstrack_tiny_test"))
        run.warm_up(5.0, None)
        before = _least_heap_mb(run)
        for content in ("nan", "scene", "nan"):
            run.stand_still(content=content)
            run.sample("healthy")
        assert _least_heap_mb(run) - before < 2.0, "the queues hold 13 MB of images"


def _least_heap_mb(run: Run) -> float:
    """Of the next 25 seconds, in which the node reads it twice: single images come and go."""
    until, seen = time.monotonic() + 25.0, []
    while time.monotonic() < until:
        seen.append(float(run.sample("healthy")["memory.heap_used_mb"]))
    return min(seen)
