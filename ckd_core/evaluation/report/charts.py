"""Charts as inline SVG: no library, no file beside the page, sharp at any size."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

# Okabe and Ito's palette: told apart with any colour vision.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d00", "#5b5b5b")
STATE_COLORS = {"TRACKING": "#009e73", "UNCERTAIN": "#e69f00", "LOST": "#d55e00"}
MAX_POINTS = 600
_MARGIN = (44.0, 10.0, 12.0, 36.0)  # left, right, top, bottom


def color(index: int) -> str:
    """Colour of the n-th tracker."""
    return COLORS[index % len(COLORS)]


def thin(count: int, limit: int = MAX_POINTS) -> NDArray[np.int64]:
    """Indices of at most `limit` points spread over `count`."""
    return (
        np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(np.int64)) if count else np.zeros(0, int)
    )


@dataclass(frozen=True, slots=True)
class Line:
    """One curve; nan breaks it."""

    label: str
    x: ArrayLike
    y: ArrayLike
    color: str
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class _Frame:
    """Maps values to the drawing's pixels."""

    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def x(self, value: float) -> float:
        left, right, _, _ = _MARGIN
        low, high = self.x_range
        return left + (value - low) / (high - low or 1) * (self.width - left - right)

    def y(self, value: float) -> float:
        _, _, top, bottom = _MARGIN
        low, high = self.y_range
        return self.height - bottom - (value - low) / (high - low or 1) * (self.height - top - bottom)


def _ticks(low: float, high: float) -> list[float]:
    """Round values that cover a range, about five."""
    span = high - low
    if not span > 0:
        return [low]
    raw = span / 5
    power = 10 ** np.floor(np.log10(raw))
    step = float(min((m for m in (1, 2, 2.5, 5, 10) if m * power >= raw), default=10) * power)
    first = np.ceil(low / step - 1e-9) * step
    return [float(v) + 0.0 for v in np.arange(first, high + step * 1e-6, step)]


def _axes(frame: _Frame, x_label: str, y_label: str) -> list[str]:
    parts = []
    x0, x1 = frame.x(frame.x_range[0]), frame.x(frame.x_range[1])
    y0, y1 = frame.y(frame.y_range[0]), frame.y(frame.y_range[1])
    for value in _ticks(*frame.y_range):
        y = frame.y(value)
        parts.append(f'<line class="grid" x1="{x0:.1f}" x2="{x1:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{x0 - 5:.1f}" y="{y + 3.5:.1f}" text-anchor="end">{value:g}</text>')
    for value in _ticks(*frame.x_range):
        x = frame.x(value)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{y0 + 14:.1f}" text-anchor="middle">{value:g}</text>')
    parts.append(f'<path class="axis" d="M{x0:.1f} {y1:.1f}V{y0:.1f}H{x1:.1f}"/>')
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    text = '<text class="label" text-anchor="middle"'
    parts.append(f'{text} x="{x:.1f}" y="{y0 + 29:.1f}">{escape(x_label)}</text>')
    parts.append(f'{text} transform="translate(12 {y:.1f}) rotate(-90)">{escape(y_label)}</text>')
    return parts


def _path(frame: _Frame, line: Line) -> str:
    xs, ys = np.asarray(line.x, dtype=np.float64), np.asarray(line.y, dtype=np.float64)
    keep = thin(len(xs))
    commands, pen = [], "M"
    for x, y in zip(xs[keep], ys[keep], strict=True):
        if not np.isfinite(y):
            pen = "M"
            continue
        commands.append(f"{pen}{frame.x(float(x)):.1f} {frame.y(float(y)):.1f}")
        pen = "L"
    dash = ' stroke-dasharray="5 3"' if line.dashed else ""
    title = f"<title>{escape(line.label)}</title>"
    return f'<path class="line" stroke="{line.color}"{dash} d="{"".join(commands)}">{title}</path>'


def _svg(width: float, height: float, parts: Sequence[str], description: str) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(description)}">{body}</svg>'


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    marker: float | None = None,
    size: tuple[float, float] = (380, 280),
) -> str:
    """Curves from 0 to 1 over a common x. marker: a vertical line, where the benchmark reads its number."""
    xs = np.concatenate([np.asarray(line.x, dtype=np.float64) for line in lines])
    frame = _Frame(size[0], size[1], (float(xs.min()), float(xs.max())), (0.0, 1.0))
    parts = _axes(frame, x_label, y_label)
    if marker is not None:
        x = frame.x(marker)
        parts.append(f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(0):.1f}" y2="{frame.y(1):.1f}"/>')
    parts += [_path(frame, line) for line in lines]
    return _svg(*size, parts, f"{y_label} over {x_label}")


def _bands(frame: _Frame, times: NDArray[np.float64], values: Sequence[str], y: float, height: float) -> list[str]:
    """Coloured blocks for runs of equal values; "" draws nothing."""
    parts, begin = [], 0
    ends = np.append(times[1:], times[-1] + (times[-1] - times[-2] if len(times) > 1 else 1.0))
    for index in range(1, len(values) + 1):
        if index < len(values) and values[index] == values[begin]:
            continue
        if values[begin]:
            x0, x1 = frame.x(float(times[begin])), frame.x(float(ends[index - 1]))
            fill = values[begin]
            parts.append(
                f'<rect x="{x0:.1f}" y="{y:.1f}" width="{max(x1 - x0, 0.5):.1f}" height="{height}" fill="{fill}"/>'
            )
        begin = index
    return parts


def timeline_chart(
    times: NDArray[np.float64],
    lines: Sequence[Line],
    states: Sequence[str],
    presence: NDArray[np.bool_],
    size: tuple[float, float] = (860, 210),
) -> str:
    """Score and overlap over time; below, the state and which cameras were there in every frame."""
    last = float(times[-1]) if len(times) > 1 else float(times[0]) + 1.0
    frame = _Frame(size[0], size[1] - 42, (float(times[0]), last), (0.0, 1.0))
    parts = _axes(frame, "", "score, overlap")
    parts += [_path(frame, line) for line in lines]
    base = size[1] - 58
    rows: tuple[tuple[str, Sequence[str]], ...] = (
        ("state", [STATE_COLORS.get(state, "") for state in states]),
        ("colour", ["#56708a" if flag else "" for flag in presence[:, 0]]),
        ("aux", ["#56708a" if flag else "" for flag in presence[:, 1]]),
    )
    for row, (label, values) in enumerate(rows):
        y = base + row * 14
        parts.append(f'<text class="tick" x="39" y="{y + 9:.1f}" text-anchor="end">{label}</text>')
        parts += _bands(frame, times, values, y, 10)
    parts.append(f'<text class="label" x="{size[0] / 2}" y="{size[1] - 3}" text-anchor="middle">time in s</text>')
    return _svg(*size, parts, "score, overlap, state and cameras over time")


def histogram(values: NDArray[np.float64], x_label: str, fill: str, size: tuple[float, float] = (380, 240)) -> str:
    """Share of frames by value; the highest percent is gathered in the last bar."""
    top = float(np.percentile(values, 99)) or 1.0
    counts, edges = np.histogram(np.minimum(values, top), bins=30, range=(0.0, top))
    shares = counts / max(len(values), 1)
    frame = _Frame(size[0], size[1], (0.0, top), (0.0, float(shares.max()) or 1.0))
    parts = _axes(frame, x_label, "share of frames")
    for share, low, high in zip(shares, edges[:-1], edges[1:], strict=True):
        x0, x1, y = frame.x(float(low)), frame.x(float(high)), frame.y(float(share))
        height = frame.y(0) - y
        parts.append(
            f'<rect x="{x0:.1f}" y="{y:.1f}" width="{max(x1 - x0 - 1, 0.5):.1f}" height="{height:.1f}" fill="{fill}"/>'
        )
    return _svg(*size, parts, f"histogram of {x_label}")
