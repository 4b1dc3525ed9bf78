"""The soak in its short form: the same run that `make soak MINUTES=10` makes, for seconds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from testkit.reliability.soak import LEAST_FAULTS, Sample, slope_mb_h, soak
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
