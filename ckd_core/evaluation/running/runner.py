"""Run a tracker over a dataset: resumable by sequence, over processes, devices and machines, repeatable to the byte."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckd_core.errors import TrackingError
from ckd_core.evaluation.running.inputs import RunError
from ckd_core.evaluation.running.manifest import claim_folder, require_folder, sequence_digest
from ckd_core.evaluation.running.records import (
    RecordError,
    TrackRecord,
    benchmark_track,
    read_record,
    track_sequence,
    write_record,
)
from ckd_core.evaluation.scoring.score import BenchmarkScore, score_benchmark
from ckd_core.locks import folder_lock
from ckd_core.orphans import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.running.conditions import Condition
    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.trackers import TrackerSpec
    from ckd_core.tracking.tracker import FrameTracker

    Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, slots=True)
class RunResult:
    """A complete run.

    Attributes:
        plan: What was run.
        records: Records by sequence name, in the dataset's order.
        score: The benchmark's numbers.
        resumed: Names of the sequences that an earlier call had tracked.

    """

    plan: RunPlan
    records: dict[str, TrackRecord]
    score: BenchmarkScore
    resumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    sequence: Sequence
    tracker: TrackerSpec
    condition: Condition
    device: str
    threads: int

    @property
    def name(self) -> str:
        return self.sequence.name


_TRACKERS: dict[tuple[object, ...], FrameTracker] = {}


def _work(job: _Job) -> TrackRecord:
    """Track one sequence; a worker keeps its tracker for the next one."""
    key = (job.tracker, job.sequence.modality, job.device, job.threads)
    if key not in _TRACKERS:
        _TRACKERS.clear()
        _TRACKERS[key] = job.tracker.build(job.sequence.modality, job.device, job.threads)
    return track_sequence(_TRACKERS[key], job.sequence, job.condition)


@contextmanager
def worker_pool(plan: RunPlan) -> Iterator[ProcessPoolExecutor | None]:
    """Worker processes for one or more runs; None where a plan needs none.

    On an error or an interrupt (Ctrl-C, SIGINT) the workers end at once: what is not written is not tracked. They end,
    too, when this process is killed.
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


def run_benchmark(
    plan: RunPlan, progress: Progress = lambda *_: None, pool: ProcessPoolExecutor | None = None
) -> RunResult:
    """Track what is not tracked yet, and score everything.

    Args:
        plan: What to run.
        progress: Called with a sequence's name, how many are done, and how many there are.
        pool: From `worker_pool`, for several runs with the same number of workers; None: the run starts its own.

    Returns:
        The plan of the result holds the frames that its condition shows.

    Raises:
        RunError: Sequences that failed, after all others are done; running again repeats only those.
        ManifestError: The folder holds another run.
        LockError: Another process writes into the folder.

    """
    require_folder(plan.out)
    with folder_lock(plan.out, "sdstrack benchmark"):
        return _run_benchmark(replace(plan, inputs=plan.inputs.under(plan.condition)), progress, pool)


def _run_benchmark(plan: RunPlan, progress: Progress, pool: ProcessPoolExecutor | None) -> RunResult:
    inputs = plan.inputs
    digests = {name: sequence_digest(inputs.sequences[name]) for name in inputs.names}
    resuming = claim_folder(plan.out, plan.decisive(), plan.circumstances(), digests, plan.restart)
    records: dict[str, TrackRecord] = {}
    if resuming:
        for name in inputs.names:
            try:
                records[name] = read_record(plan.out, name)
            except RecordError:
                continue
    resumed = tuple(records)
    jobs = _open_jobs(plan, resumed)
    failures: dict[str, str] = {}
    with nullcontext(pool) if pool is not None or not jobs else worker_pool(plan) as workers:
        for job, outcome in _execute(plan, jobs, workers):
            if isinstance(outcome, TrackRecord):
                write_record(outcome, plan.out, inputs.rule, plan.integer_boxes)
                records[job.name] = read_record(plan.out, job.name)
                progress(job.name, len(records), len(inputs))
            else:
                failures[job.name] = str(outcome)
    if failures:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
        raise RunError(f"{len(failures)} of {len(inputs)} sequences failed; the others are kept:\n{lines}")
    ordered = {name: records[name] for name in inputs.names}
    tracks = {name: benchmark_track(record, inputs.rule, plan.integer_boxes) for name, record in ordered.items()}
    score = score_benchmark(inputs.rule, inputs.scored_truths(), tracks, plan.tracker.label)
    return RunResult(plan, ordered, score, resumed)


def _open_jobs(plan: RunPlan, done: Container[str]) -> list[_Job]:
    """Sequences to track. A sequence's device goes by its place in the dataset: a resumed run keeps it."""
    devices, threads = plan.devices, plan.worker_threads
    return [
        _Job(plan.inputs.sequences[name], plan.tracker, plan.condition, devices[place % len(devices)], threads)
        for place, name in enumerate(plan.inputs.names)
        if name not in done
    ]


def _execute(
    plan: RunPlan, jobs: list[_Job], pool: ProcessPoolExecutor | None
) -> Iterator[tuple[_Job, TrackRecord | Exception]]:
    if plan.pool == "ray":
        return _on_ray(plan, jobs)
    return _here(jobs) if pool is None else _in_processes(pool, jobs)


def _here(jobs: Iterable[_Job]) -> Iterator[tuple[_Job, TrackRecord | Exception]]:
    for job in jobs:
        try:
            yield job, _work(job)
        except TrackingError as error:
            yield job, error
    _TRACKERS.clear()


def _in_processes(pool: ProcessPoolExecutor, jobs: list[_Job]) -> Iterator[tuple[_Job, TrackRecord | Exception]]:
    waiting: dict[Future[TrackRecord], _Job] = {pool.submit(_work, job): job for job in jobs}
    for future in as_completed(waiting):
        try:
            yield waiting[future], future.result()
        except TrackingError as error:
            yield waiting[future], error
        except BrokenProcessPool as error:
            message = "a worker process died (out of memory?); finished sequences are kept, run again to continue"
            raise RunError(message) from error


def _in_ray_task(device: str, gpus: float) -> tuple[str, int]:
    """What a device is called inside a Ray task, which sees the GPU reserved for it alone, and how many to reserve.

    Args:
        device: As in the plan.
        gpus: How many the cluster has.

    Raises:
        RunError: A GPU in a cluster without one; Ray would wait for it forever.

    """
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if not device.startswith("cuda"):
        return device, 0
    if not gpus:
        raise RunError(f"device {device} was asked for, but the Ray cluster has no GPU; give --device cpu")
    return "cuda", 1


def _on_ray(plan: RunPlan, jobs: list[_Job]) -> Iterator[tuple[_Job, TrackRecord | Exception]]:
    """One task per sequence; every machine of the cluster needs the dataset under the same path."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports each run to its maker
    try:
        import ray
    except ImportError as error:
        raise RunError("the pool 'ray' needs the package ray (pip install ray)") from error
    started_here = not ray.is_initialized()
    if started_here:
        options: dict[str, Any] = {} if plan.ray_address else {"num_cpus": plan.workers * plan.worker_threads}
        options |= {"include_dashboard": False, "log_to_driver": False, "configure_logging": False}
        ray.init(address=plan.ray_address, **options)
    try:
        gpus = ray.cluster_resources().get("GPU", 0)
        tasks = [ray.remote(num_cpus=plan.worker_threads, num_gpus=count, max_retries=1)(_work) for count in (0, 1)]
        waiting = {}
        for job in jobs:
            device, reserved = _in_ray_task(job.device, gpus)
            waiting[tasks[reserved].remote(replace(job, device=device))] = job
        while waiting:
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            try:
                yield job, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                if not isinstance(error.cause, TrackingError):
                    raise
                yield job, error.cause
    finally:
        if started_here:
            ray.shutdown()
