"""What every figure is made of: axes in one style, a caption that says the data, and the numbers behind it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ckd_core.errors import TrackingError
from ckd_core.evaluation.report.charts import COLORS
from ckd_core.files import atomic_path, discard, write_text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DPI = 200
LINE_STYLES = ("-", "--", "-.", ":")
STYLE = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib
    "font.size": 9,
    "grid.color": "#dfe4ea",
    "legend.fontsize": 8,
    "legend.framealpha": 0.9,
    "pdf.fonttype": 42,  # fonts as journals want them
    "savefig.dpi": DPI,
}


class PlotError(TrackingError):
    """A figure that cannot be drawn from what is there."""


@dataclass(slots=True)
class Drawing:
    """A figure and the numbers behind it.

    Attributes:
        figure: Without its caption.
        caption: Which data it shows.
        rows: One mapping per row of the CSV file, all with the same keys.
    """

    figure: Figure
    caption: str
    rows: Sequence[Mapping[str, Any]] = ()


def style() -> Any:
    """Context in which figures are drawn."""
    return mpl.rc_context(STYLE)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, independent of any window system."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def look(index: int) -> dict[str, Any]:
    """Colour and line style of the n-th tracker; no two of the first 32 are alike."""
    return {"color": COLORS[index % len(COLORS)], "linestyle": LINE_STYLES[index // len(COLORS) % len(LINE_STYLES)]}


def save_drawing(drawing: Drawing, out: Path) -> list[Path]:
    """Write OUT.png, OUT.pdf and OUT.csv, each whole or not at all; returns the paths.

    Raises:
        PlotError: A file cannot be written.
    """
    drawing.figure.supxlabel(drawing.caption, fontsize=7, color="#4b5763", wrap=True)
    written = [out.with_name(out.name + suffix) for suffix in (".png", ".pdf", ".csv")]
    try:
        discard(written)
        for path in written[:2]:
            with atomic_path(path) as temporary, style():
                # Neither has a date in it: the same numbers give the same bytes.
                metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
                drawing.figure.savefig(temporary, format=path.suffix[1:], dpi=DPI, metadata=metadata)
        write_text(written[2], _csv(drawing.rows))
    except OSError as error:
        raise PlotError(f"{out} cannot be written: {error.strerror or error}") from error
    return written


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    return stream.getvalue()


def _cell(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
