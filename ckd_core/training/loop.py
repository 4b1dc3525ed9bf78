"""The training loop: plain PyTorch, one process or many, resumable at every step.

Everything random is a function of (seed, step, rank) or (seed, sample index), and the learning rate one of the step. So
a checkpoint needs no generator states, and a run resumed at any step equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ckd_core.errors import TrackingError
from ckd_core.models.checkpoint import WeightsFileError
from ckd_core.models.layers.elimination import keep_rate_at
from ckd_core.objectives.base import Objective, StepContext, StepResult, mix_seed
from ckd_core.objectives.losses import LossError, count_positives, heatmap, mean_present
from ckd_core.tracking.engines.base import has_native_bf16
from ckd_core.training import optim, processes, run_state
from ckd_core.training.batches import BatchError, StepIndices, load_batches
from ckd_core.training.interruption import StopRequest
from ckd_core.training.module import TrainingModule
from ckd_core.training.reporting import ProgressLine, Reporter, Stopwatch
from ckd_core.training.state_file import RunStateError, also_as, require_writable
from ckd_core.training.validation import METRICS, mean_iou

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ckd_core.data.pairs import PairDataset, TrainingBatch
    from ckd_core.models.network import TrackingNetwork
    from ckd_core.training.config import TrainSettings

LOGGER = logging.getLogger(__name__)
MIN_PAIRS_BEFORE_SKIP_LIMIT = 200
MAX_OVERFLOWS = 25  # steps in a row that fp16 may skip while its scale settles


class TrainingError(TrackingError):
    """Training that cannot go on; the state on disk stays usable."""


class TrainingInterruptedError(TrainingError):
    """Training stopped on request; `last` holds its state."""


class TrainingDivergedError(TrainingError):
    """A loss or gradient that is not finite; the batch is on disk."""


@dataclass(frozen=True, slots=True)
class TrainingSummary:
    """What a run came to.

    Attributes:
        steps: Number of steps in total.
        best: Best value of the chosen metric; None without a validation.
        values: Of the last step and the last validation, by name.
    """

    steps: int
    best: float | None
    values: dict[str, float]


class Trainer:
    """Trains one network.

    network: of the registry, on any device; moved to the run's.
    train_pairs, val_pairs: see `ckd_core.data.pairs`; validation takes indices 0 .. val_samples - 1.
    """

    def __init__(
        self,
        settings: TrainSettings,
        network: TrackingNetwork,
        objective: Objective,
        train_pairs: PairDataset,
        val_pairs: PairDataset | None = None,
    ) -> None:
        self.settings = settings
        self.processes = processes.join(settings.run.device)
        self._parts = self.processes.count * settings.optim.accumulation
        if settings.run.batch_size % self._parts:
            raise BatchError(
                f"run.batch_size {settings.run.batch_size} does not divide into {self.processes.count} processes x "
                f"{settings.optim.accumulation} accumulated parts; expected a multiple of {self._parts}"
            )
        if settings.run.threads:
            torch.set_num_threads(settings.run.threads)
        self.network = network.to(self.processes.device)
        if settings.optim.precision != "fp32":
            # A quarter less time for small networks' convolutions on a CPU; in fp32 its sums round five times worse.
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch types other forms
        if settings.optim.precision == "bf16" and self.processes.device.type == "cpu" and not has_native_bf16():
            LOGGER.warning(
                "optim.precision is bf16, for which this CPU has no instructions: a step takes several times as long "
                "as with optim.precision=fp32"
            )
        if settings.run.best_metric not in METRICS:
            raise TrainingError(f"run.best_metric is '{settings.run.best_metric}'; expected {' or '.join(METRICS)}")
        self.grid = network.config.grid
        self.optimizer, self.names = optim.build_optimizer(self.network, settings.optim)
        decay = settings.optim.ema_decay
        self.average = None if decay is None else optim.MovingAverage(self.network, decay)
        self.scaler = torch.amp.GradScaler(
            self.processes.device.type, enabled=settings.optim.precision == "fp16", init_scale=2.0**12
        )
        self.module = TrainingModule(self.network, objective, settings.optim.precision)
        self.model = self._distributed()
        self.train_pairs, self.val_pairs = train_pairs, val_pairs
        self.step = 0
        self.closed = 0  # epochs that are validated and exported
        self.best: float | None = None
        self.skipped = 0
        self._overflows = 0
        self._stop = StopRequest()

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return self.settings.run.out

    @property
    def last(self) -> Path:
        """Checkpoint to resume from."""
        return self.folder / "checkpoints" / "last.safetensors"

    def resume(self, path: Path | None = None) -> None:
        """Go back to a checkpoint (`last` of this run by default).

        Raises:
            RunStateError: no checkpoint there, a broken one, or one of another run.
        """
        state = run_state.restore(path or self.last, self.settings, self._live())
        self.step, self.best, self.skipped = int(state["step"]), state["best"], int(state["skipped"])
        self.closed = int(state["epochs_closed"])

    def run(self) -> TrainingSummary:
        """Train to the end.

        Raises:
            TrainingInterruptedError: stopped on request; `last` holds the state.
            TrainingDivergedError: a loss or gradient that is not finite.
            BatchError: a batch could not be made.
            RunStateError: the state could not be written, or processes resumed at different steps.
            WeightsFileError: an export failed; the state of before is on disk, `resume` exports again.

        """
        if self.processes.is_main:
            require_writable(self.last.parent)
        if not self.processes.agree_on(self.step):
            raise RunStateError(
                f"this process resumed at step {self.step}, another one elsewhere; every machine must see the same "
                f"{self.last}"
            )
        reporter = Reporter(self.folder, self.processes.is_main, self.settings, self.step)
        try:
            with self._stop.on_signals(), reporter.bar(self.settings.total_steps, self.step) as line:
                values = self._run(reporter, line)
        except (RunStateError, WeightsFileError):
            raise  # a file could not be written: saving once more would only hide why
        except TrackingError as error:
            if isinstance(error, TrainingInterruptedError):
                raise
            raise type(error)(f"{error}{self._rescued()}") from error
        except RuntimeError as error:
            if self.processes.count == 1:
                raise
            # torch.distributed says so when the process at the other end is gone.
            reason = str(error).splitlines()[0]
            raise TrainingError(f"the exchange with another process failed ({reason}){self._rescued()}") from error
        finally:
            reporter.close()
            self.leave()
        return TrainingSummary(self.step, self.best, values)

    def leave(self) -> None:
        """Leave the other processes, after which the trainer cannot be used. `run` does so itself."""
        self.model = self.module
        processes.leave()

    def _run(self, reporter: Reporter, line: ProgressLine) -> dict[str, float]:
        run, started, saved = self.settings.run, time.monotonic(), time.monotonic()
        self.train_mode()
        indices = StepIndices(
            self.step, self.settings.total_steps, run.batch_size, self.processes.rank, self.processes.count
        )
        batches = load_batches(self.train_pairs, indices, run.workers, self.processes.device.type == "cuda")
        watch = Stopwatch()
        values: dict[str, float] = {}
        first = self.step
        while True:
            if self.step == (self.closed + 1) * self.settings.steps_per_epoch:
                values |= self._end_of_epoch(reporter)
                saved = time.monotonic()
            if self.step >= self.settings.total_steps:
                return values
            if self.step > first and self.processes.any(bool(self._stop.reason)):
                raise self._interrupted()
            with watch.measure("data"):
                batch = self._next_batch(batches)
            with watch.measure("compute"):
                batch_on_device = batch.to(self.processes.device)
                values, result = self.train_step(batch_on_device)
            self.step += 1
            watch.steps += 1
            if reporter.active:
                rates = [group["lr"] for group in self.optimizer.param_groups]
                reporter.step(self.step, values, rates, watch, line)
                if run.images_every and self.step % run.images_every == 0:
                    reporter.examples("train/pairs", batch, result.box_cxcywh, self.step)
            if time.monotonic() - saved > run.checkpoint_minutes * 60:
                self._save()
                saved = time.monotonic()
            limit = run.stop_after_minutes
            if limit is not None and time.monotonic() - started > limit * 60:
                self._stop.reason = f"run.stop_after_minutes {limit:g} are over"

    def _interrupted(self) -> TrainingInterruptedError:
        reason = self._stop.reason or "another process is to stop"
        return TrainingInterruptedError(
            f"training stopped at step {self.step} of {self.settings.total_steps} ({reason}); go on with --resume "
            f"({self._save()})"
        )

    def _next_batch(self, batches: Iterator[TrainingBatch]) -> TrainingBatch:
        """Share of the next step. An error in one process ends the run in all of them, before that step."""
        failure: TrackingError | None = None
        try:
            batch = next(batches)
            self._count_skipped(batch)
        except TrackingError as error:
            # A batch system's SIGTERM takes the workers with it.
            failure = self._interrupted() if self._stop.reason else error
        self.processes.fail_together(failure)
        return batch

    def train_step(self, batch: TrainingBatch) -> tuple[dict[str, float], StepResult]:
        """Do one optimiser step with this process' share of a global batch.

        Returns the values averaged over parts and processes, and the first part's result.

        Raises:
            TrainingDivergedError: a loss or gradient is not finite; the weights have not changed.
        """
        context = self._prepare_step(batch)
        parts = batch.chunks(self.settings.optim.accumulation)
        results: list[StepResult] = []
        for i, part in enumerate(parts):
            alone = isinstance(self.model, DistributedDataParallel) and i + 1 < len(parts)
            with self.model.no_sync() if alone else contextlib.nullcontext():  # type: ignore[operator]  # DDP's own
                try:
                    result: StepResult = self.model(part, context)
                except LossError as error:
                    traceback.clear_frames(error.__traceback__)  # they hold the model: processes.leave
                    raise self._diverged(f"{error}", batch) from error
                self.scaler.scale(result.loss / len(parts)).backward()  # type: ignore[no-untyped-call]
            results.append(result)
        self.scaler.unscale_(self.optimizer)
        clip = self.settings.optim.clip_norm
        norm = nn.utils.clip_grad_norm_([p for p in self.network.parameters() if p.requires_grad], clip or math.inf)
        values = self._gather(results, norm)
        self._overflows = 0 if math.isfinite(values["gradient_norm"]) else self._overflows + 1
        # With fp16, the scaler skips a step that overflowed and halves its scale.
        if not math.isfinite(values["loss"]) or self._overflows > (MAX_OVERFLOWS if self.scaler.is_enabled() else 0):
            reason = f"loss is {values['loss']}, gradient norm {values['gradient_norm']}; expected finite numbers"
            raise self._diverged(reason, batch)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None:
            self.average.update(self.network, self.step)
        return values, results[0]

    def _prepare_step(self, batch: TrainingBatch) -> StepContext:
        """Set seeds and rates of this step."""
        settings, epoch = self.settings, self.step // self.settings.steps_per_epoch + 1
        keep = settings.optim.keep_rate
        torch.manual_seed(mix_seed(settings.run.seed, self.step, self.processes.rank))
        factor = optim.learning_rate_factor(
            settings.optim.schedule, self.step, settings.steps_per_epoch, settings.total_steps
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        self.optimizer.zero_grad(set_to_none=True)
        own = count_positives(heatmap(batch.search_box, self.grid))
        total = torch.clamp(self.processes.mean(own) * self.processes.count, min=1.0)
        return StepContext(
            seed=settings.run.seed,
            epoch=epoch,
            keep_rate=keep_rate_at(epoch, keep.rate, keep.start, keep.warm),
            positives=total / self._parts,
        )

    def _gather(self, results: list[StepResult], norm: Tensor) -> dict[str, float]:
        names = ["loss", "iou", *results[0].terms]
        rows = [torch.stack([r.loss.detach(), mean_present(r.iou), *r.terms.values()]).float() for r in results]
        mean = self.processes.mean(torch.stack(rows).mean(dim=0)).tolist()
        return dict(zip(names, mean, strict=True)) | {"gradient_norm": float(norm)}

    def _diverged(self, reason: str, batch: TrainingBatch) -> TrainingDivergedError:
        path = self.folder / f"bad_batch_step_{self.step}_rank_{self.processes.rank}.safetensors"
        run_state.save_batch(path, batch, self.step, reason)
        return TrainingDivergedError(
            f"training diverged at step {self.step}: {reason}. The weights are those before it; the batch is in {path}"
        )

    def _distributed(self) -> nn.Module:
        if self.processes.count == 1:
            return self.module
        device = self.processes.device
        return DistributedDataParallel(
            self.module,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=True,  # SDSTrack: 64 trained tensors never run; CKD: unused class tokens
        )

    def train_mode(self) -> None:
        """Switch to training, with BatchNorm frozen where the settings say so."""
        self.module.train()
        if self.settings.optim.freeze_batch_norm:
            optim.freeze_batch_norm(self.network)

    def _count_skipped(self, batch: TrainingBatch) -> None:
        for frame in batch.skipped:
            LOGGER.warning("skipped a frame: %s", frame)
        skipped = self.skipped + len(batch.skipped)
        pairs = (self.step + 1) * len(batch)
        limit = self.settings.run.max_skipped
        if pairs >= MIN_PAIRS_BEFORE_SKIP_LIMIT and skipped > limit * pairs:
            raise TrainingError(
                f"{skipped} frames of the last {pairs} pairs could not be used; expected at most "
                f"run.max_skipped = {limit:g} of them ({batch.skipped[-1:] or 'see the log'})"
            )
        self.skipped = skipped

    def _end_of_epoch(self, reporter: Reporter) -> dict[str, float]:
        """Validate and export. The epoch is closed last, so that a resumed run repeats what an error cut short."""
        run, epoch = self.settings.run, self.closed + 1
        values: dict[str, float] = {}
        last = self.step == self.settings.total_steps
        saved = self._save()
        if self.processes.is_main and run.checkpoint_every and epoch % run.checkpoint_every == 0:
            also_as(saved, saved.with_name(f"epoch_{epoch:04d}.safetensors"))
            if run.keep_checkpoints:
                for old in sorted(saved.parent.glob("epoch_*.safetensors"))[: -run.keep_checkpoints]:
                    old.unlink()
        if run.val_every and (epoch % run.val_every == 0 or last):
            values = self._validate()
            reporter.scalars(values, self.step)
            if values and self.processes.is_main:  # every process has them
                LOGGER.info("epoch %d  %s", epoch, "  ".join(f"{k} {v:.4f}" for k, v in values.items()))
        metric = values.get(run.best_metric)
        is_best = metric is not None and (self.best is None or metric > self.best)
        if self.processes.is_main:
            if is_best:
                also_as(saved, saved.with_name("best.safetensors"))
                self._export("best", values)
            if last:
                self._export("final", values)
        self.best, self.closed = (metric if is_best else self.best), epoch
        self._save()
        return values

    def _validate(self) -> dict[str, float]:
        values: dict[str, float] = {}
        if self.val_pairs is not None:
            with self._averaged_weights():
                values = mean_iou(self.network, self.val_pairs, self.settings.run, self.processes, self.module.dtype)
        self.train_mode()
        return values

    @contextlib.contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Within: eval mode, with the moving average in place of the weights where there is one."""
        self.module.eval()
        if self.average is not None:
            self.average.swap(self.network)
        try:
            yield
        finally:
            if self.average is not None:
                self.average.swap(self.network)

    def _export(self, name: str, values: dict[str, float]) -> None:
        with self._averaged_weights():
            run_state.export(self.folder / f"{name}.safetensors", self.network, self.settings, self.step, values)
        self.train_mode()

    def _save(self) -> Path:
        if self.processes.is_main:
            state = {"step": self.step, "epochs_closed": self.closed, "best": self.best, "skipped": self.skipped}
            run_state.save(self.last, self.settings, self._live(), state)
        return self.last

    def _rescued(self) -> str:
        """Save after an error; the end of its message. Only the main process writes."""
        if not self.processes.is_main:
            return ""
        return f". State of step {self.step} saved; go on with --resume ({self._save()})"

    def _live(self) -> run_state.LiveState:
        return run_state.LiveState(self.network, self.optimizer, self.names, self.average, self.scaler)
