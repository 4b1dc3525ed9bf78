"""The soak's picture: memory, descriptors and threads, latencies and pairing over time, faults shaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckd_core.files import atomic_path
from testkit.reliability.soak import judged_samples

if TYPE_CHECKING:
    from pathlib import Path

    from testkit.reliability.soak import Sample, Soak

QUIET, FAULT, LINES = "#e8f3ec", "#f6d9cc", ("#0072b2", "#d55e00", "#009e73")


def draw(result: Soak, path: Path) -> Path:
    """Write the PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    samples = result.samples
    t = np.array([sample.t for sample in samples])
    figure = Figure(figsize=(10, 9), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(4, 1, sharex=True)
    verdict = "passed" if result.passed else "FAILED"
    figure.suptitle(
        f"{result.model} by {result.engine}: 640x480 colour + depth at 30 Hz, {result.minutes:g} min, "
        f"{len(result.faults)} faults, {verdict}"
    )
    panels = (
        ("memory [MB]", {"private": "rss_mb", "shared": "shm_mb"}),
        ("held", {"file descriptors": "fds", "threads": "threads"}),
        ("image to box [ms]", {"p50": "p50_ms", "p99": "p99_ms"}),
    )
    for axis, (title, lines) in zip(axes, panels, strict=False):
        for color, (label, name) in zip(LINES, lines.items(), strict=False):
            axis.plot(t, [getattr(sample, name) for sample in samples], color=color, label=label, linewidth=1.2)
        axis.set_ylabel(title)
    _rates(axes[3], samples, t)
    low = min(sample.rss_mb for sample in judged_samples(result))
    axes[0].axhline(low, color="#999999", linewidth=0.6, linestyle=":")
    for axis in axes:
        _shade(axis, result)
        axis.legend(loc="upper left", fontsize=8, ncols=3)
        axis.grid(alpha=0.25)
    axes[-1].set_xlabel("seconds")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=90)
    return path


def _rates(axis: object, samples: list[Sample], t: np.ndarray) -> None:
    seconds = np.maximum(np.diff(t), 1e-3)
    for color, name in zip(LINES, ("color_in", "paired", "answered"), strict=True):
        rise = np.diff([getattr(sample, name) for sample in samples])
        axis.plot(t[1:], np.maximum(rise, 0) / seconds, color=color, label=name.replace("_", " "), linewidth=1.0)  # type: ignore[attr-defined]  # an Axes
    axis.set_ylabel("per second")  # type: ignore[attr-defined]  # an Axes


def _shade(axis: object, result: Soak) -> None:
    """Quiet stretches and the seconds of the faults."""
    quiet = [sample.t for sample in result.samples if sample.phase == "quiet"]
    edges = [i for i in range(1, len(quiet)) if quiet[i] - quiet[i - 1] > 5.0]
    for stretch in np.split(np.array(quiet), edges):
        if stretch.size:
            axis.axvspan(stretch[0], stretch[-1], color=QUIET, zorder=0)  # type: ignore[attr-defined]  # an Axes
    for fault in result.faults:
        axis.axvspan(fault.t, fault.t + 2.0, color=FAULT, alpha=0.6, zorder=0)  # type: ignore[attr-defined]  # an Axes
