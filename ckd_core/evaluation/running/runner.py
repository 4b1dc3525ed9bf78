"""Run a tracker over a dataset: resumable by sequence, over processes, devices and machines, the same every time."""

from __future__ import annotations

import logging
import multiprocessing
import os
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from ckd_core.errors import TrackingError
from ckd_core.evaluation.running.conditions import FULL, Condition
from ckd_core.evaluation.running.manifest import (
    claim_folder,
    device_name,
    git_revision,
    installed_versions,
    sequence_digest,
)
from ckd_core.evaluation.running.records import (
    RecordError,
    TrackRecord,
    benchmark_track,
    read_record,
    track_sequence,
    write_record,
)
from ckd_core.evaluation.scoring.raw_results import read_sequence_truth
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import BenchmarkScore, require_scorable, score_benchmark
from ckd_core.tracking.engines import device_family

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator
    from pathlib import Path

    from ckd_core.data.datasets import Dataset
    from ckd_core.data.sequences import Sequence
    from ckd_core.evaluation.running.trackers import TrackerSpec
    from ckd_core.tracking.tracker import FrameTracker

logger = logging.getLogger(__name__)
POOLS = ("local", "ray")


class RunError(TrackingError):
    """A run that cannot start, or whose sequences failed."""


@dataclass(frozen=True, slots=True)
class RunPlan:
    """One run: who, on what, under which condition, into which folder.

    workers: processes (local) or tasks at a time (ray). devices: given to the dataset's sequences in turn; for Ray
    cuda:N means any GPU of the cluster. threads: CPU threads a worker, 0 = the cores divided by the workers. pool:
    "local" or "ray"; ray_address: of a running cluster.
    """

    dataset: Dataset
    tracker: TrackerSpec
    out: Path
    condition: Condition = FULL
    workers: int = 1
    devices: tuple[str, ...] = ("auto",)
    threads: int = 0
    pool: str = "local"
    ray_address: str | None = None
    restart: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise RunError(f"workers={self.workers}; expected 1 or more")
        if self.pool not in POOLS:
            raise RunError(f"no pool {self.pool!r}; known are {', '.join(POOLS)}")
        if not self.devices:
            raise RunError("devices is empty; name at least one, such as cpu or cuda:0")
        for device in self.devices:
            device_family(device)

    @property
    def worker_threads(self) -> int:
        """CPU threads of one worker."""
        return self.threads or max((os.cpu_count() or 1) // self.workers, 1)

    def decisive(self) -> dict[str, object]:
        """Everything that the boxes depend on.

        Raises RunError for a device that this machine has not (the machines of a Ray cluster may have it), and what the
        tracker raises when its weights are missing.
        """
        devices = {device: device_name(device) for device in self.devices}
        absent = [device for device, name in devices.items() if name is None]
        if absent and self.pool == "local":
            raise RunError(f"device {', '.join(absent)} is not available here; give --device cpu, or auto")
        return {
            "dataset": self.dataset.layout.name,
            "split": self.dataset.split,
            "cut": self.dataset.cut,
            "tracker": self.tracker.describe(),
            "condition": str(self.condition),
            "seed": self.condition.seed,
            "devices": devices,
            "threads": self.worker_threads,
            "start_full": self.condition.start_full,
        }

    def circumstances(self) -> dict[str, object]:
        """What else is worth keeping about a run."""
        return {
            "label": self.tracker.label,
            "sequences": list(self.dataset.names),
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "workers": self.workers,
            "versions": installed_versions(),
            "git_revision": git_revision(),
        }


@dataclass(frozen=True, slots=True)
class RunResult:
    """A complete run: records by sequence in the dataset's order, and the benchmark's numbers."""

    plan: RunPlan
    records: dict[str, TrackRecord]
    score: BenchmarkScore
    resumed: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Job:
    dataset: Dataset
    name: str
    tracker: TrackerSpec
    condition: Condition
    device: str
    threads: int


_TRACKERS: dict[tuple[object, ...], FrameTracker] = {}


def _work(job: _Job) -> TrackRecord:
    """Track one sequence; a worker keeps its tracker for the next one."""
    sequence = job.dataset.open(job.name)
    key = (job.tracker, sequence.modality, job.device, job.threads)
    if key not in _TRACKERS:
        _TRACKERS.clear()
        _TRACKERS[key] = job.tracker.build(sequence.modality, job.device, job.threads)
    return track_sequence(_TRACKERS[key], sequence, job.condition)


def require_whole(
    dataset: Dataset, skip_broken: bool = False, echo: Callable[[str], object] = logger.warning
) -> Dataset:
    """Check every sequence before any work starts, and that the benchmark can score it.

    Raises RunError that names all missing or broken sequences; with `skip_broken` they are told to `echo` and left out.
    """
    rule = get_rule(dataset.layout.name)

    def check_truth(name: str, folder: Path, sequence: Sequence) -> None:
        require_scorable(rule, read_sequence_truth(folder, name, rule, len(sequence)))

    problems = dataset.problems(check_truth)
    if not problems:
        return dataset
    lines = "\n".join(f"  {problem.sequence}: {problem.reason}" for problem in problems)
    if not skip_broken:
        counts = f"{len(problems)} of {len(dataset)} sequences"
        raise RunError(f"{counts} cannot be used; repair them, or leave them out (--skip-broken):\n{lines}")
    echo(f"{len(problems)} sequences are left out:\n{lines}")
    broken = {problem.sequence for problem in problems}
    kept = [name for name in dataset.names if name not in broken]
    if not kept:
        raise RunError(f"no usable sequence is left in {dataset.root}")
    return dataset.select(kept)


@contextmanager
def worker_pool(plan: RunPlan) -> Iterator[ProcessPoolExecutor | None]:
    """Worker processes for one or more runs; None where a plan needs none.

    On an error or an interrupt (Ctrl-C, SIGINT) the workers end at once: what is not written is not tracked.
    """
    if plan.pool != "local" or plan.workers == 1:
        yield None
        return
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(plan.workers, mp_context=multiprocessing.get_context("spawn"))
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
    plan: RunPlan,
    progress: Callable[[str, int, int], object] = lambda *_: None,
    pool: ProcessPoolExecutor | None = None,
) -> RunResult:
    """Track what is not tracked yet, and score everything.

    progress: called with a sequence's name, how many are done, and how many there are. pool: from `worker_pool`, for
    several runs of one plan's kind; None: workers of this run's own.
    Raises RunError after all other sequences are done when some failed; running again repeats only those.
    """
    rule = get_rule(plan.dataset.layout.name)
    inputs = {name: sequence_digest(plan.dataset.open(name)) for name in plan.dataset.names}
    resuming = claim_folder(plan.out, plan.decisive(), plan.circumstances(), inputs, plan.restart)
    records: dict[str, TrackRecord] = {}
    if resuming:
        for name in plan.dataset.names:
            try:
                records[name] = read_record(plan.out, name)
            except RecordError:
                continue
    resumed = tuple(records)
    jobs = _open_jobs(plan, resumed)
    failures: dict[str, str] = {}
    with nullcontext(pool) if pool is not None or not jobs else worker_pool(plan) as workers:
        for job, answer in _execute(plan, jobs, workers):
            if isinstance(answer, TrackRecord):
                write_record(answer, plan.out, rule)
                records[job.name] = read_record(plan.out, job.name)
                progress(job.name, len(records), len(plan.dataset))
            else:
                failures[job.name] = str(answer)
    if failures:
        lines = "\n".join(f"  {name}: {reason}" for name, reason in failures.items())
        raise RunError(f"{len(failures)} of {len(plan.dataset)} sequences failed; the others are kept:\n{lines}")
    ordered = {name: records[name] for name in plan.dataset.names}
    truths = [read_sequence_truth(folder, name, rule, len(ordered[name])) for name, folder in plan.dataset.folders]
    if rule.long_term:  # whose toolkit cuts boxes at the border
        truths = [replace(truth, size=plan.dataset.image_size(truth.name)) for truth in truths]
    tracks = {name: benchmark_track(record, rule) for name, record in ordered.items()}
    return RunResult(plan, ordered, score_benchmark(rule, truths, tracks, plan.tracker.label), resumed)


def _open_jobs(plan: RunPlan, done: Container[str]) -> list[_Job]:
    """What is left to do. A sequence's device goes by its place in the dataset: it is the same in a resumed run."""
    devices, threads = plan.devices, plan.worker_threads
    return [
        _Job(plan.dataset, name, plan.tracker, plan.condition, devices[place % len(devices)], threads)
        for place, name in enumerate(plan.dataset.names)
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
            message = "a worker process died (out of memory?); what is done is kept, run again to go on"
            raise RunError(message) from error


def _in_ray_task(device: str, gpus: float) -> tuple[str, int]:
    """What a device is called inside a Ray task, which sees the GPU reserved for it alone, and how many to reserve.

    gpus: in the cluster. Raises RunError for a GPU where there is none: Ray would wait for one forever.
    """
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if not device.startswith("cuda"):
        return device, 0
    if not gpus:
        raise RunError(f"device {device} was asked for, the Ray cluster has no GPU; give --device cpu")
    return "cuda", 1


def _on_ray(plan: RunPlan, jobs: list[_Job]) -> Iterator[tuple[_Job, TrackRecord | Exception]]:
    """One task a sequence; every machine of the cluster needs the dataset under the same path."""
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
        there = ray.cluster_resources().get("GPU", 0)
        tasks = [ray.remote(num_cpus=plan.worker_threads, num_gpus=count, max_retries=1)(_work) for count in (0, 1)]
        waiting = {}
        for job in jobs:
            device, gpus = _in_ray_task(job.device, there)
            waiting[tasks[gpus].remote(replace(job, device=device))] = job
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
