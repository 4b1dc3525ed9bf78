"""What a figure may be asked to show; every figure says which of it it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.evaluation.plots.drawing import PlotError

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureRequest:
    """Options of `sdstrack figure`, where they are described."""

    results: tuple[Path, ...] = ()
    benchmark: str | None = None
    truth: Path | None = None
    attributes: Path | None = None
    root: Path | None = None
    dataset: str = "folder"
    sequence: str | None = None
    frames: tuple[int, ...] = ()
    model: str | None = None
    weights: Path | None = None
    condition: str = "full"
    points: Path | None = None
    key: str | None = None
    metric: str | None = None
    method: str = "pca"
    seed: int = 0

    def need_results(self, what: str) -> tuple[Path, ...]:
        """The results; raises PlotError when there are none."""
        if not self.results:
            raise PlotError(f"this figure is drawn from {what}; expected at least one")
        return self.results

    def need_root(self) -> Path:
        """The dataset's folder; raises PlotError when it is not given."""
        if self.root is None:
            raise PlotError("this figure shows images; expected --root, the dataset's folder")
        return self.root

    def need(self, option: str) -> str:
        """A text option; raises PlotError when it is not given."""
        value = getattr(self, option)
        if not value:
            raise PlotError(f"this figure needs --{option}; see sdstrack figure --help")
        return str(value)
