"""Global indices to batches: which process gets which pairs of which step."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import cv2
import torch
from torch.utils.data import DataLoader

from ckd_core.data.pairs import PairDataset, TrainingBatch, collate
from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Iterator


class BatchError(TrackingError):
    """Batches that cannot be made: sizes that do not divide, a worker that died, a pair that failed."""


class StepIndices:
    """Indices of one process, step by step: step s takes s * batch .. (s + 1) * batch - 1, cut evenly by rank."""

    def __init__(self, first_step: int, last_step: int, batch_size: int, rank: int, count: int) -> None:
        if batch_size % count:
            raise BatchError(f"batch_size {batch_size} does not divide among {count} processes; expected a multiple")
        self.first_step, self.last_step = first_step, last_step
        self.batch_size, self.share, self.rank = batch_size, batch_size // count, rank

    def __len__(self) -> int:
        """Count the steps."""
        return max(0, self.last_step - self.first_step)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield one list of indices per step."""
        for step in range(self.first_step, self.last_step):
            start = step * self.batch_size + self.rank * self.share
            yield list(range(start, start + self.share))


class _BatchMaker:
    """Map-style over lists of indices: one whole batch per call, or the message of the error that prevented it."""

    def __init__(self, pairs: PairDataset) -> None:
        self.pairs = pairs

    def __getitem__(self, indices: list[int]) -> TrainingBatch | str:
        try:
            return collate([(index, self.pairs[index]) for index in indices])
        except TrackingError as error:  # raised again in the main process, without the worker's traceback as message
            return f"{error}"


def _prepare_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that trains; it ends the workers
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def load_batches(pairs: PairDataset, indices: StepIndices, workers: int, pin: bool) -> Iterator[TrainingBatch]:
    """Yield the batches of `indices`, made by `workers` processes (0: by this one).

    Raises:
        BatchError: a pair cannot be made, or a worker was killed.
    """
    options: dict[str, Any] = {"prefetch_factor": 2, "worker_init_fn": _prepare_worker} if workers else {}
    loader: DataLoader[Any] = DataLoader(
        _BatchMaker(pairs),  # type: ignore[arg-type]  # map-style: the loader only calls __getitem__
        sampler=indices,  # an iterable of indices, which here are lists
        batch_size=None,
        num_workers=workers,
        pin_memory=pin,
        **options,
    )
    iterator = iter(loader)
    if workers and threading.current_thread() is threading.main_thread():
        # torch's handler would raise wherever this process is when a worker dies, also half-way through a weight
        # update; without it the loader notices within 5 s, while waiting for the next batch
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while True:
        try:
            batch = next(iterator)
        except StopIteration:
            return
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise BatchError(
                f"a data worker died ({error}); often the machine ran out of memory or shared memory: "
                f"fewer run.workers (now {workers}) or a smaller run.batch_size help"
            ) from error
        if isinstance(batch, str):
            raise BatchError(batch)
        yield batch
