"""Charts as inline SVG, drawn by matplotlib: sharp at any size, the same text for the same numbers."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

# Okabe and Ito's palette: distinguishable with any colour vision.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#5b5b5b")
STATE_COLORS = {"TRACKING": "#009e73", "UNCERTAIN": "#e69f00", "LOST": "#d55e00"}
PRESENT_COLOR = "#56708a"
MAX_POINTS = 600
UNITS_PER_INCH = 72  # of SVG as matplotlib writes it
MARGINS = (44.0, 10.0, 12.0, 36.0)  # left, right, top, bottom
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#8c99a6",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": "#3a4754",
    "axes.labelsize": 11.5,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "figure.facecolor": "none",
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "grid.color": "#e6ebf0",
    "lines.linewidth": 1.8,
    "lines.solid_joinstyle": "round",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",  # text stays text, in the page's font
    "svg.hashsalt": "sdstrack",
    "xtick.bottom": False,
    "xtick.labelcolor": "#5d6b7a",
    "xtick.labelsize": 10.5,
    "ytick.labelcolor": "#5d6b7a",
    "ytick.labelsize": 10.5,
    "ytick.left": False,
}


def color(index: int) -> str:
    """Colour of the n-th tracker."""
    return COLORS[index % len(COLORS)]


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; nan breaks it."""

    label: str
    x: ArrayLike
    y: ArrayLike
    color: str


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    marker: float | None = None,
    size: tuple[float, float] = (380, 280),
) -> str:
    """Draw curves from 0 to 1 over a common x.

    Args:
        lines: The curves.
        x_label: Below the axis.
        y_label: Beside the axis.
        marker: Where the benchmark reads its number, shown as a vertical line; None: no line.
        size: Width and height in px.

    """
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(size, MARGINS)
        xs = np.concatenate([np.asarray(line.x, dtype=np.float64) for line in lines])
        axes.set(xlim=(xs.min(), xs.max()), ylim=(0.0, 1.0), xlabel=x_label, ylabel=y_label)
        if marker is not None:
            axes.axvline(marker, color="#8c99a6", linewidth=1.0, dashes=(3, 3))
        _plot(axes, lines)
        return _svg(figure, size, f"{y_label} over {x_label}", lines)


def timeline_chart(
    times: NDArray[np.float64],
    lines: Sequence[Line],
    states: Sequence[str],
    presence: NDArray[np.bool_],
    size: tuple[float, float] = (860, 210),
) -> str:
    """Draw curves over time; below, the state and which cameras were there in every frame.

    Args:
        times: [N] s.
        lines: Curves from 0 to 1, such as score and overlap.
        states: N names of states.
        presence: [N, 2] bool (colour, auxiliary).
        size: Width and height in px.

    """
    left, right, top, _ = MARGINS
    ends = np.append(times[1:], times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1.0))
    x_range = (float(times[0]), float(ends[-1]))  # the last frame has its width too
    present = [[PRESENT_COLOR if flag else "" for flag in column] for column in presence.T]
    rows = {"state": [STATE_COLORS.get(state, "") for state in states], "colour": present[0], "aux": present[1]}
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(size, (left, right, top, 78.0))
        axes.set(xlim=x_range, ylim=(0.0, 1.0), ylabel="score, overlap")
        _plot(axes, lines)
        bands = _axes(figure, size, (left, right, size[1] - 60.0, 18.0))
        bands.set(xlim=x_range, ylim=(len(rows) - 0.5, -0.5), xticks=[], yticks=range(len(rows)), yticklabels=rows)
        bands.set_xlabel("time in s", labelpad=4.0)
        bands.grid(visible=False)
        bands.spines[:].set_visible(False)
        for row, fills in enumerate(rows.values()):
            for fill, run in groupby(range(len(fills)), key=fills.__getitem__):
                frames = list(run)
                if fill:
                    start, end = float(times[frames[0]]), float(ends[frames[-1]])
                    bands.add_patch(Rectangle((start, row - 0.36), end - start, 0.72, facecolor=fill, linewidth=0))
        return _svg(figure, size, "score, overlap, state and cameras over time", lines)


def histogram(values: NDArray[np.float64], x_label: str, fill: str, size: tuple[float, float] = (380, 240)) -> str:
    """Draw the share of frames by value; the highest percent of the values is gathered in the last bar."""
    top = float(np.percentile(values, 99)) or 1.0
    counts, edges = np.histogram(np.minimum(values, top), bins=30, range=(0.0, top))
    shares = counts / max(len(values), 1)
    with mpl.rc_context(STYLE):
        figure, axes = _canvas(size, MARGINS)
        axes.set(xlim=(0.0, top), ylim=(0.0, float(shares.max()) or 1.0), xlabel=x_label, ylabel="share of frames")
        axes.bar(edges[:-1], shares, width=np.diff(edges) * 0.9, align="edge", color=fill)
        return _svg(figure, size, f"histogram of {x_label}")


def _canvas(size: tuple[float, float], margins: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(size[0] / UNITS_PER_INCH, size[1] / UNITS_PER_INCH))
    return figure, _axes(figure, size, margins)


def _axes(figure: Figure, size: tuple[float, float], margins: tuple[float, float, float, float]) -> Axes:
    (width, height), (left, right, top, bottom) = size, margins
    place = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure.add_axes(place)


def _plot(axes: Axes, lines: Sequence[Line]) -> None:
    """Draw curves, each thinned to `MAX_POINTS`."""
    for number, line in enumerate(lines):
        xs, ys = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
        keep = np.unique(np.linspace(0, len(xs) - 1, min(len(xs), MAX_POINTS)).round().astype(np.int64))
        axes.plot(xs[keep], ys[keep], color=line.color, gid=f"line-{number}")


def _svg(figure: Figure, size: tuple[float, float], description: str, lines: Sequence[Line] = ()) -> str:
    """The drawing as an element of a page, its words escaped.

    Curves carry their label, which a browser shows at the pointer. Style sheets, clip paths and identifiers go: in a
    page they would act beyond their drawing, and nothing here is drawn outside of its axes.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = stream.getvalue()
    text = re.sub(r"<defs>.*?</defs>", "", text[text.index("<svg") :], flags=re.DOTALL)
    for number, line in enumerate(lines):
        text = text.replace(f'<g id="line-{number}">', f"<g><title>{escape(line.label)}</title>")
    text = re.sub(r' (id|clip-path)="[^"]*"', "", text)
    root = f'<svg viewBox="0 0 {size[0]:g} {size[1]:g}" role="img" aria-label="{escape(description)}">'
    text = re.sub(r"<svg [^>]*>", lambda _: root, text, count=1)
    return re.sub(r"\s+", " ", text)
