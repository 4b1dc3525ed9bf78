"""Interleaved timing: every variant once per round, so that a drifting machine moves all of them alike."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

# The reliability tables name date, machine and versions; so do these.
from testkit.reliability.about import about

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ckd_core.models.network import TrackingNetwork

Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds of one variant over all rounds."""

    samples_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """Median in milliseconds."""
        return statistics.median(self.samples_ms)

    @property
    def spread_ms(self) -> float:
        """Distance between the first and the third quartile in milliseconds."""
        if len(self.samples_ms) < 2:
            return 0.0
        first, _, third = statistics.quantiles(self.samples_ms, n=4)
        return third - first


def interleaved(variants: Mapping[str, Callable[[], object]], rounds: int = 15, warmup: int = 2) -> dict[str, Timing]:
    """Time every variant `rounds` times in turn (A B C A B C ...) after `warmup` uncounted rounds."""
    samples: dict[str, list[float]] = {name: [] for name in variants}
    for index in range(warmup + rounds):
        for name, call in variants.items():
            begin = time.perf_counter()
            call()
            elapsed_ms = (time.perf_counter() - begin) * 1e3
            if index >= warmup:
                samples[name].append(elapsed_ms)
    return {name: Timing(tuple(values)) for name, values in samples.items()}


def network_of(name: str) -> TrackingNetwork:
    """Network with its default weights, random ones where it has none: speed hardly depends on them."""
    from ckd_core.models.checkpoint import default_weights, load_model
    from ckd_core.models.registry import build_model

    return load_model(name)[0] if default_weights(name).is_file() else build_model(name).eval()


def rows_against(timings: Mapping[str, Timing], reference: str) -> list[Row]:
    """One row per variant; ratio = reference / variant, so above 1 is faster than the reference."""
    base = timings[reference].median_ms
    return [
        {
            "name": name,
            "median_ms": round(timing.median_ms, 4),
            "spread_ms": round(timing.spread_ms, 4),
            "ratio": round(base / timing.median_ms, 3),
        }
        for name, timing in timings.items()
    ]


def tables(rows: list[dict[str, object]]) -> list[list[dict[str, object]]]:
    """Put rows with the same columns together, in order of appearance."""
    groups: dict[tuple[str, ...], list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault(tuple(row), []).append(row)
    return list(groups.values())


def json_file(path: Path, name: str) -> Path:
    """Return `path`, or the file `name` in it where it is a folder."""
    return path / name if path.is_dir() else path


def markdown(title: str, rows: list[dict[str, object]], rounds: str) -> str:
    """Heading, date, machine, and a table for each group of rows with the same columns."""
    lines = [f"## {title}", "", f"{', '.join(about().values())}; {rounds}."]
    for group in tables(rows):
        columns = list(group[0])
        lines += ["", "| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
        lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in group]
    return "\n".join(lines)
