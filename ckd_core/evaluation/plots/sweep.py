"""A metric against a key of the recipe, over training runs."""

from __future__ import annotations

import csv
import math
from typing import TYPE_CHECKING, Any

from ckd_core.evaluation.plots.drawing import Drawing, PlotError, new_figure
from ckd_core.evaluation.report.charts import COLORS

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.evaluation.plots.request import FigureRequest

LOSSES, STATE = "losses.csv", "checkpoints/last.safetensors"


def sweep(request: FigureRequest) -> Drawing:
    """The last value of a metric in each run, against one key; runs with the same key are seeds of one point.

    Raises:
        PlotError: A folder that is no run, a key that it does not have, or a metric without values.
    """
    key, metric = request.need("key"), request.metric or "val/iou"
    rows: list[dict[str, Any]] = [
        {"run": run.name, key: _value(run, key), metric: _last(run / LOSSES, metric)}
        for run in request.need_results("folders of training runs")
    ]
    numeric = all(isinstance(row[key], int | float) and not isinstance(row[key], bool) for row in rows)
    points: dict[Any, list[float]] = {}
    for row in sorted(rows, key=lambda row: row[key] if numeric else str(row[key])):
        points.setdefault(row[key], []).append(row[metric])
    figure = new_figure(4.2, 3.0)
    axes = figure.subplots()
    places = list(range(len(points)))  # evenly spaced: weights are tried in decades, and 0 is among them
    means = [sum(values) / len(values) for values in points.values()]
    axes.plot(places, means, marker="o", color=COLORS[0])
    for place, values in zip(places, points.values(), strict=True):
        axes.scatter([place] * len(values), values, s=14, color=COLORS[1], zorder=3)
    axes.set_xticks(places, [f"{value:g}" if numeric else str(value) for value in points])
    axes.set_xlabel(key)
    axes.set_ylabel(metric)
    axes.margins(x=0.1, y=0.15)
    seeds = sorted({len(values) for values in points.values()})
    caption = (
        f"{metric} at the end of {len(rows)} training runs ({' or '.join(map(str, seeds))} per value: dots, line: "
        f"mean): {', '.join(str(row['run']) for row in rows)}."
    )
    return Drawing(figure, caption, rows)


def _value(run: Path, key: str) -> Any:
    """A key of the settings that a run was trained with."""
    import json

    from safetensors import SafetensorError, safe_open

    path = run / STATE
    try:
        with safe_open(path, framework="pt") as stored:
            node: Any = json.loads((stored.metadata() or {})["state"])["settings"]
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise PlotError(f"{run} is no training run: cannot read {path} ({error})") from error
    for part in key.split("."):
        if isinstance(node, list) and part.isdigit() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict) and part in node:
            node = node[part]
        else:
            known = ", ".join(node) if isinstance(node, dict) else type(node).__name__
            raise PlotError(f"{run} has no key {key}: {part} is not among {known}")
    if isinstance(node, dict | list):
        raise PlotError(f"{key} is a whole section; expected one value in it")
    return node


def _last(path: Path, metric: str) -> float:
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        values = [float(row[metric]) for row in rows if row.get(metric)]
    except (OSError, ValueError, csv.Error) as error:
        raise PlotError(f"cannot read {path}: {error}") from error
    if not values or not math.isfinite(values[-1]):
        known = ", ".join(name for name in (rows[0] if rows else {}) if name != "step")
        raise PlotError(f"{path} has no values of {metric}; expected one of {known or '(nothing yet)'}")
    return values[-1]
