"""All figures by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckd_core.evaluation.plots.drawing import PlotError, save_drawing, style
from ckd_core.evaluation.plots.features import style as style_figure
from ckd_core.evaluation.plots.numbers import precision_plot, radar, robustness, speed, success_plot
from ckd_core.evaluation.plots.pictures import frames_figure, response_figure
from ckd_core.evaluation.plots.sweep import sweep
from ckd_core.evaluation.plots.tables import cost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckd_core.evaluation.plots.drawing import Drawing
    from ckd_core.evaluation.plots.request import FigureRequest

FIGURES: dict[str, Callable[[FigureRequest], Drawing]] = {
    "success": success_plot,
    "precision": precision_plot,
    "radar": radar,
    "speed": speed,
    "robustness": robustness,
    "score-maps": response_figure,
    "frames": frames_figure,
    "style": style_figure,
    "sweep": sweep,
    "cost": cost,
}


def draw_figure(name: str, request: FigureRequest, out: Path) -> list[Path]:
    """Draw a figure and write OUT.png, OUT.pdf and OUT.csv; returns the paths.

    Raises:
        PlotError: There is no such figure, something that it needs is not there, or a file cannot be written.
    """
    if name not in FIGURES:
        raise PlotError(f"unknown figure {name!r}; expected one of {', '.join(FIGURES)}")
    with style():
        return save_drawing(FIGURES[name](request), out)
