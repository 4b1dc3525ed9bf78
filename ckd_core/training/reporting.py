"""What a run shows: TensorBoard scalars and images, the same values as CSV, a progress bar, log lines."""

from __future__ import annotations

import csv
import io
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ckd_core.errors import TrackingError
from ckd_core.files import write_text
from ckd_core.models.normalisation import to_pixels
from ckd_core.settings import to_plain

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from ckd_core.data.pairs import TrainingBatch
    from ckd_core.training.config import TrainSettings

LOGGER = logging.getLogger(__name__)
EXAMPLES = 4
GREEN, RED = (0, 220, 0), (235, 40, 40)


class ReportingError(TrackingError):
    """A place that values should go to, which is not there."""


class Stopwatch:
    """Splits wall time between waiting for data and computing."""

    def __init__(self) -> None:
        self.seconds = {"data": 0.0, "compute": 0.0}
        self.steps = 0

    @contextmanager
    def measure(self, kind: str) -> Iterator[None]:
        """Add the time of the `with` block to `kind`."""
        start = time.perf_counter()
        yield
        self.seconds[kind] += time.perf_counter() - start

    def data_share(self) -> float:
        """Share of the time spent waiting for data, 0..1."""
        return self.seconds["data"] / max(1e-9, sum(self.seconds.values()))


class ValueTable:
    """`losses.csv`: one row per step with values, one column per name; of a resumed run, rows before its step stay."""

    def __init__(self, path: Path, step: int) -> None:
        self.path: Path | None = path
        self.names: list[str] = []
        kept: list[dict[str, str]] = []
        try:
            if path.is_file():
                with path.open(newline="", encoding="utf-8") as stream:
                    reader = csv.DictReader(stream)
                    kept = [row for row in reader if (row.get("step") or "").isdigit() and int(row["step"]) <= step]
                    self.names = [name for name in reader.fieldnames or [] if name != "step"]
            self._rewrite(kept)
        except (OSError, csv.Error, UnicodeDecodeError) as error:
            self._give_up(error)

    def add(self, values: dict[str, float], step: int) -> None:
        """Append a row; names that are new get a column."""
        if self.path is None:
            return
        try:
            if set(values) - set(self.names):
                with self.path.open(newline="", encoding="utf-8") as stream:
                    kept = list(csv.DictReader(stream))
                self.names += [name for name in values if name not in self.names]
                self._rewrite(kept)
            with self.path.open("a", newline="", encoding="utf-8") as stream:
                cells = [f"{values[name]:.6g}" if name in values else "" for name in self.names]
                csv.writer(stream, lineterminator="\n").writerow([step, *cells])
        except OSError as error:
            self._give_up(error)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        if self.path is None:
            return
        stream = io.StringIO()
        writer = csv.DictWriter(stream, ["step", *self.names], restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, stream.getvalue())

    def _give_up(self, error: Exception) -> None:
        LOGGER.warning("no %s from here on: %s", self.path, error)
        self.path = None


def start_wandb(project: str, folder: Path, settings: TrainSettings) -> Any:
    """A run of Weights & Biases, named after the run's folder; offline where WANDB_MODE says so.

    Raises:
        ReportingError: The package is missing, or does not start.
    """
    try:
        import wandb
    except ImportError as error:
        raise ReportingError(f"run.wandb is {project!r}, which needs the package wandb (pip install wandb)") from error
    try:
        return wandb.init(
            project=project,
            name=folder.name,
            dir=str(folder),
            config=to_plain(settings),
            resume="allow",
            id=folder.name,
        )
    except Exception as error:  # its own errors, those of the network, and of its process
        raise ReportingError(f"run.wandb is {project!r}, and wandb does not start: {error}") from error


class Reporter:
    """Writes TensorBoard files and losses.csv into `folder`, and drives the bar; silent in all but the main process."""

    def __init__(self, folder: Path, active: bool, settings: TrainSettings, step: int = 0) -> None:
        self.active = active
        self.settings = settings
        self.writer: Any = None
        self.table: ValueTable | None = None
        self.wandb: Any = None
        if not active:
            return
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(folder / "tensorboard"))
        self.table = ValueTable(folder / "losses.csv", step)
        if settings.run.wandb:
            self.wandb = start_wandb(settings.run.wandb, folder, settings)
        self.console = Console(stderr=True)

    def close(self) -> None:
        """Flush and close the TensorBoard file and the wandb run."""
        self._write("close")
        if self.wandb is not None:
            self.wandb.finish()

    def step(
        self, step: int, values: dict[str, float], rates: list[float], watch: Stopwatch, line: ProgressLine
    ) -> None:
        """Show step number `step`: on the progress line always, as log line and scalars every `run.log_every` steps.

        Args:
            step: steps done.
            values: values of the step, among them `loss` and `iou`.
            rates: learning rate of each parameter group.
            watch: time of this process' steps so far.
            line: progress line of `bar`.
        """
        run, total = self.settings.run, self.settings.total_steps
        speed = run.batch_size * watch.steps / max(1e-9, sum(watch.seconds.values()))
        note = (
            f"loss {values['loss']:.3f}  IoU {values['iou']:.3f}  {speed:.0f} pairs/s  "
            f"data {watch.data_share():.0%} compute {1 - watch.data_share():.0%}"
        )
        line.advance(step, note)
        if step % run.log_every == 0 or step == total:
            LOGGER.info("step %d of %d  %s", step, total, note)
            scalars = {f"train/{name}": value for name, value in values.items()}
            scalars |= {f"rate/lr_{i}": rate for i, rate in enumerate(rates)}
            self.scalars(scalars | {"time/data_share": watch.data_share(), "time/pairs_per_s": speed}, step)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Write scalars by name."""
        if not values:
            return
        for name, value in values.items():
            self._write("add_scalar", name, value, step)
        if self.table is not None:
            self.table.add(values, step)
        if self.wandb is not None:
            self.wandb.log(values, step=step)

    def examples(self, name: str, batch: TrainingBatch, box_cxcywh: Tensor, step: int) -> None:
        """Write the first pairs as an image: template and search of both modalities, true box green, predicted red."""
        if self.writer is not None:
            self._write("add_image", name, draw_examples(batch, box_cxcywh), step, dataformats="HWC")

    def _write(self, method: str, *values: Any, **options: Any) -> None:
        """Call the writer. A full disk ends the TensorBoard file, not the run."""
        if self.writer is None:
            return
        try:
            getattr(self.writer, method)(*values, **options)
        except OSError as error:
            LOGGER.warning("no TensorBoard file from here on, %s: %s", self.writer.log_dir, error)
            self.writer = None

    @contextmanager
    def bar(self, total: int, done: int) -> Iterator[ProgressLine]:
        """Show a progress bar on a terminal; elsewhere log lines do."""
        if not self.active or not self.console.is_terminal:
            yield ProgressLine(None, None)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, transient=False) as progress:
            task = progress.add_task("train", total=total, completed=done, note="")
            yield ProgressLine(progress, task)


class ProgressLine:
    """The moving part of the bar."""

    def __init__(self, progress: Progress | None, task: Any) -> None:
        self._progress, self._task = progress, task

    def advance(self, done: int, note: str) -> None:
        """Show that `done` steps are done."""
        if self._progress is not None:
            self._progress.update(self._task, completed=done, note=note)


def draw_examples(batch: TrainingBatch, box_cxcywh: Tensor) -> NDArray[np.uint8]:
    """Draw up to four pairs that have a predicted box, one per row: [H, W, 3] uint8."""
    rows = []
    for i in range(min(EXAMPLES, len(batch), len(box_cxcywh))):
        side = int(batch.search.shape[-1])
        x, y, w, h = batch.template_box[i].tolist()
        template = _crop_images(batch.template[i], side, [((x, y, x + w, y + h), GREEN)])
        x, y, w, h = batch.search_box[i].tolist()
        cx, cy, pw, ph = box_cxcywh[i].float().tolist()
        predicted = (cx - pw / 2, cy - ph / 2, cx + pw / 2, cy + ph / 2)
        rows.append(
            np.hstack(
                [template, _crop_images(batch.search[i], side, [((x, y, x + w, y + h), GREEN), (predicted, RED)])]
            )
        )
    return np.vstack(rows)


def _crop_images(
    crop: Tensor, side: int, boxes: list[tuple[tuple[float, ...], tuple[int, int, int]]]
) -> NDArray[np.uint8]:
    """Colour and auxiliary crop [6, h, w] side by side as [side, 2 side, 3] uint8, with boxes (xyxy, normalised)."""
    pixels = to_pixels(crop)
    sides = []
    for part in (pixels[..., :3], pixels[..., 3:]):
        image = cv2.resize(np.ascontiguousarray(part), (side, side), interpolation=cv2.INTER_NEAREST)
        for corners, color in boxes:
            x1, y1, x2, y2 = (round(float(np.clip(v, -1, 2)) * side) for v in corners)
            cv2.rectangle(image, (x1, y1), (x2, y2), color, 1)
        sides.append(image)
    return np.hstack(sides)
