"""Figures of numbers: success and precision over thresholds, attributes, speed, and degraded cameras."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ckd_core.evaluation.plots.drawing import Drawing, PlotError, look, new_figure
from ckd_core.evaluation.report.charts import COLORS
from ckd_core.evaluation.running.manifest import MANIFEST, read_manifest
from ckd_core.evaluation.running.records import read_record
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score_files import score_files
from ckd_core.files import regular

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.evaluation.plots.request import FigureRequest
    from ckd_core.evaluation.scoring.score import BenchmarkScore

MIN_AXES = 3  # of a radar


def _scores(request: FigureRequest, attributes: Path | None = None) -> list[BenchmarkScore]:
    results = request.need_results("results: folders, archives or runs")
    return score_files(list(results), request.need("benchmark"), request.truth, attributes)


def _data(scores: list[BenchmarkScore]) -> str:
    rule = get_rule(scores[0].benchmark)
    counts = sorted({len(score.sequences) for score in scores})
    return f"{rule.title}, {' or '.join(map(str, counts))} sequences; {rule.source}"


def _overall(request: FigureRequest, kind: str) -> Drawing:
    """One curve per tracker, best first."""
    scores = _scores(request)
    rule = get_rule(scores[0].benchmark)
    success = kind == "success"
    name = rule.success_name if success else rule.precision_name
    x = rule.success_thresholds if success else rule.thresholds
    figure = new_figure(4.2, 3.6)
    axes = figure.subplots()
    rows = []
    for place, score in enumerate(sorted(scores, key=lambda item: -item.metrics[name])):
        y = score.success_curve if success else score.precision_curve
        axes.plot(x, y, label=f"[{score.metrics[name]:.3f}] {score.tracker}", linewidth=1.8, **look(place))
        rows += [{"tracker": score.tracker, "threshold": float(a), kind: float(b)} for a, b in zip(x, y, strict=True)]
    axes.set_xlabel("overlap threshold" if success else "centre error threshold / px")
    axes.set_ylabel(f"{kind} rate")
    axes.set_xlim(float(x[0]), float(x[-1]))
    axes.set_ylim(0, 1)
    axes.legend(loc="best", title=name)
    meaning = "the area under the curve" if success else f"the rate at {rule.precision_px:g} px"
    return Drawing(figure, f"{kind.capitalize()} plot; {name} is {meaning}. {_data(scores)}.", rows)


def success_plot(request: FigureRequest) -> Drawing:
    """Share of frames whose overlap is above a threshold."""
    return _overall(request, "success")


def precision_plot(request: FigureRequest) -> Drawing:
    """Share of frames whose centre error is at most a threshold."""
    return _overall(request, "precision")


def radar(request: FigureRequest) -> Drawing:
    """One axis per challenge attribute, each scaled to its best tracker.

    Raises:
        PlotError: Fewer than three attributes have sequences, or there is no such metric.
    """
    if request.attributes is None:
        raise PlotError("this figure needs --attributes; see sdstrack figure --help")
    scores = _scores(request, request.attributes)
    names = list(scores[0].per_attribute)
    if len(names) < MIN_AXES:
        raise PlotError(f"{len(names)} attributes have sequences ({', '.join(names)}); expected at least {MIN_AXES}")
    metric = request.metric or get_rule(scores[0].benchmark).success_name
    known = scores[0].per_attribute[names[0]]
    if metric not in known:
        raise PlotError(f"no metric {metric!r} by attribute; expected one of {', '.join(known)}")
    values = np.array([[score.per_attribute[name][metric] for name in names] for score in scores])
    best, lowest = values.max(axis=0), values.min(axis=0)
    scaled = values / np.where(best > 0, best, 1.0)
    angles = np.linspace(0, 2 * math.pi, len(names), endpoint=False)
    figure = new_figure(5.2, 5.0)
    axes = figure.subplots(subplot_kw={"projection": "polar"})
    rows = []
    for place, score in enumerate(scores):
        closed = np.append(scaled[place], scaled[place, 0])
        axes.plot(np.append(angles, 0.0), closed, label=score.tracker, linewidth=1.6, **look(place))
        rows += [
            {"attribute": name, "tracker": score.tracker, metric: float(value), "of_best": float(share)}
            for name, value, share in zip(names, values[place], scaled[place], strict=True)
        ]
    axes.set_xticks(angles, [f"{n}\n({a:.3f}, {b:.3f})" for n, a, b in zip(names, lowest, best, strict=True)])
    axes.tick_params(axis="x", labelsize=7, pad=4)
    for label, angle in zip(axes.get_xticklabels(), angles, strict=True):  # away from the circle on either side
        across = math.cos(float(angle))
        label.set_horizontalalignment("left" if across > 0.2 else "right" if across < -0.2 else "center")
    axes.set_ylim(max(0.0, math.floor(float(scaled.min()) * 10 - 1) / 10), 1.0)
    axes.set_yticklabels([])
    axes.legend(loc="lower left", bbox_to_anchor=(-0.12, -0.12))
    caption = (
        f"{metric} by challenge attribute, each axis as a share of its best tracker; (lowest, best). {_data(scores)}."
    )
    return Drawing(figure, caption, rows)


def frames_per_second(run: Path) -> float:
    """Frames per second of a run of `sdstrack benchmark`: tracked frames over the seconds that they took."""
    names = read_manifest(run)["sequences"]
    milliseconds = np.concatenate([read_record(run, name).latency_ms() for name in names])
    return float(1e3 / milliseconds.mean()) if len(milliseconds) else math.nan


def speed(request: FigureRequest) -> Drawing:
    """Precision against frames per second: own runs, and points out of a file.

    Raises:
        PlotError: A result that is no run, or a file of points in another form.
    """
    points: list[tuple[str, float, float, str]] = []
    metric, data = request.metric or "PR", ""
    if request.results:
        for path in request.results:
            if not (path / MANIFEST).is_file():
                raise PlotError(f"{path} has no times; expected runs of sdstrack benchmark, others in --points")
        scores = _scores(request)
        metric = request.metric or get_rule(scores[0].benchmark).precision_name
        data = f" Own runs: {_data(scores)}; {_machine(request.results[0])}."
        for path, score in zip(request.results, scores, strict=True):
            if metric not in score.metrics:
                raise PlotError(f"no metric {metric!r}; expected one of {', '.join(score.metrics)}")
            points.append((score.tracker, frames_per_second(path), score.metrics[metric], "own run"))
    if request.points is not None:
        points += _published_points(request.points, metric)
        data += f" Others: {request.points.name}, on other machines."
    if not points:
        raise PlotError("there is no point; expected runs of sdstrack benchmark, or --points FILE")
    figure = new_figure(4.6, 3.4)
    axes = figure.subplots()
    for place, (name, fps, value, origin) in enumerate(points):
        own = origin == "own run"
        marker, area = ("*", 130) if own else ("o", 36)
        axes.scatter([fps], [value], color=COLORS[place % len(COLORS)], zorder=3, marker=marker, s=area)
        axes.annotate(name, (fps, value), textcoords="offset points", xytext=(5, 4), fontsize=7)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.margins(x=0.25, y=0.2)
    axes.set_xlabel("frames per second")
    axes.set_ylabel(metric)
    rows = [{"tracker": a, "fps": b, metric: c, "origin": d} for a, b, c, d in points]
    return Drawing(figure, f"{metric} against speed.{data}", rows)


def _machine(run: Path) -> str:
    devices = read_manifest(run)["run"]["devices"]
    return ", ".join(str(name) for name in devices.values())


def _published_points(path: Path, metric: str) -> list[tuple[str, float, float, str]]:
    """Rows of a CSV file with the columns tracker, fps and the metric."""
    try:
        with regular(path).open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlotError(f"cannot read points {path}: {error}") from error
    points = []
    for number, row in enumerate(rows, start=2):
        try:
            fps, value = float(row["fps"]), float(row[metric])
        except (KeyError, TypeError, ValueError):
            raise PlotError(f"{path} line {number}: expected the columns tracker, fps and {metric}") from None
        if not (math.isfinite(value) and fps > 0):
            raise PlotError(f"{path} line {number}: fps {fps:g} and {metric} {value:g}; expected finite, fps above 0")
        points.append((str(row.get("tracker") or ""), fps, value, row.get("source") or path.name))
    return points


def robustness(request: FigureRequest) -> Drawing:
    """What missing, hidden and degraded cameras cost: AUC by condition, from tables of `sdstrack robustness`.

    Raises:
        PlotError: No such table.
    """
    rows: list[dict[str, Any]] = []
    for folder in request.need_results("folders of sdstrack robustness"):
        path = folder / "robustness.json"
        try:
            rows += [
                {"table": folder.name, "condition": row["condition"], "auc": float(row["auc"]),
                 "precision_20px": float(row["precision_20px"])}
                for row in json.loads(path.read_text())["robustness"]
            ]  # fmt: skip
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise PlotError(f"{path} is no table of sdstrack robustness: {error}") from error
    tables = list(dict.fromkeys(row["table"] for row in rows))
    conditions = list(dict.fromkeys(row["condition"] for row in rows))
    figure = new_figure(5.0, 0.9 + 0.26 * len(conditions) * max(1, len(tables) * 0.7))
    axes = figure.subplots()
    height = 0.8 / len(tables)
    for place, table in enumerate(tables):
        found = {row["condition"]: row["auc"] for row in rows if row["table"] == table}
        at = [index + (place - (len(tables) - 1) / 2) * height for index in range(len(conditions))]
        values = [found.get(name, math.nan) for name in conditions]
        axes.barh(at, values, height, label=table, color=COLORS[place % len(COLORS)])
        for y, value in zip(at, values, strict=True):
            if math.isfinite(value):
                axes.text(value + 0.005, y, f"{value:.3f}", va="center", fontsize=6.5)
    axes.set_yticks(range(len(conditions)), conditions)
    axes.invert_yaxis()
    axes.set_xlabel("success AUC")
    axes.grid(visible=False, axis="y")
    if len(tables) > 1:
        axes.legend()
    data = "; ".join(_table_data(folder) for folder in request.results)
    return Drawing(figure, f"Success AUC under missing and degraded cameras. {data}.", rows)


def _table_data(folder: Path) -> str:
    """Which tracker and sequences a table of `sdstrack robustness` is of, as the manifests of its runs say."""
    manifest = read_manifest(next((path.parent for path in sorted(folder.glob(f"*/{MANIFEST}"))), folder))
    sequences, dataset = manifest["sequences"], manifest["run"]["dataset"]
    names = ", ".join(sequences[:3]) + (", ..." if len(sequences) > 3 else "")
    return f"{folder.name}: {manifest['label']} on {len(sequences)} sequences of {dataset} ({names})"
