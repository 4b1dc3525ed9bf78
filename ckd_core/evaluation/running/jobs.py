"""The jobs of a run, one sequence each, and how this machine works through them."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core.errors import TrackingError
from ckd_core.evaluation.running.inputs import RunError
from ckd_core.evaluation.running.records import TrackRecord, track_sequence
from ckd_core.orphans import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.trackers import TrackerSpec
    from ckd_core.tracking.tracker import FrameTracker


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One sequence to track.

    Attributes:
        sequence: Its frames, as the condition shows them.
        tracker: Built by the worker.
        condition: What the tracker is shown.
        device: Where the network runs.
        threads: CPU threads.
    """

    sequence: Sequence
    tracker: TrackerSpec
    condition: Condition
    device: str
    threads: int

    @property
    def name(self) -> str:
        """Name of the sequence."""
        return self.sequence.name


Outcome = tuple[Job, "TrackRecord | Exception"]

_TRACKERS: dict[tuple[object, ...], FrameTracker] = {}


def work(job: Job) -> TrackRecord:
    """Track one sequence; a worker keeps its tracker for the next one."""
    key = (job.tracker, job.sequence.modality, job.device, job.threads)
    if key not in _TRACKERS:
        _TRACKERS.clear()
        _TRACKERS[key] = job.tracker.build(job.sequence.modality, job.device, job.threads)
    return track_sequence(_TRACKERS[key], job.sequence, job.condition)


def open_jobs(plan: RunPlan, done: Container[str]) -> list[Job]:
    """Sequences to track. A sequence's device goes by its place in the dataset: a resumed run keeps it."""
    devices, threads = plan.devices, plan.worker_threads
    return [
        Job(plan.inputs.sequences[name], plan.tracker, plan.condition, devices[place % len(devices)], threads)
        for place, name in enumerate(plan.inputs.names)
        if name not in done
    ]


def longest_first(jobs: Iterable[Job]) -> list[Job]:
    """The order for several workers: one that begins a long sequence last keeps all others waiting."""
    return sorted(jobs, key=lambda job: -len(job.sequence))


def work_here(jobs: Iterable[Job]) -> Iterator[Outcome]:
    """Track one sequence after the other in this process."""
    for job in jobs:
        try:
            yield job, work(job)
        except TrackingError as error:
            yield job, error
    _TRACKERS.clear()


@contextmanager
def worker_pool(plan: RunPlan) -> Iterator[ProcessPoolExecutor | None]:
    """Worker processes for one or more runs; None where a plan needs none.

    On an error or an interrupt (Ctrl-C, SIGINT) the workers end at once: what is not written is not tracked. They also
    end when this process is killed.
    """
    if plan.pool != "local" or plan.workers == 1:
        yield None
        return
    before = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(plan.workers, mp_context=spawn, initializer=end_with_parent, initargs=(os.getpid(),))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in set(multiprocessing.active_children()) - before:
            worker.terminate()
        raise
    finally:
        pool.shutdown()


def work_in_processes(pool: ProcessPoolExecutor, jobs: list[Job]) -> Iterator[Outcome]:
    """Track in the processes of a pool; outcomes come as they are ready.

    Raises:
        RunError: A worker process died.
    """
    waiting: dict[Future[TrackRecord], Job] = {pool.submit(work, job): job for job in longest_first(jobs)}
    for future in as_completed(waiting):
        try:
            yield waiting[future], future.result()
        except TrackingError as error:
            yield waiting[future], error
        except BrokenProcessPool as error:
            message = "a worker process died (out of memory?); finished sequences are kept, run again to continue"
            raise RunError(message) from error
