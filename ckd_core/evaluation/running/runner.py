"""Run a tracker over a dataset: resumable by sequence, over processes, devices and machines, repeatable to the byte."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckd_core.evaluation.running.inputs import RunError
from ckd_core.evaluation.running.jobs import open_jobs, work_here, work_in_processes, worker_pool
from ckd_core.evaluation.running.manifest import claim_folder, require_folder, sequence_digest
from ckd_core.evaluation.running.ray_pool import work_on_ray
from ckd_core.evaluation.running.records import (
    RecordError,
    TrackRecord,
    benchmark_track,
    read_record,
    write_record,
)
from ckd_core.evaluation.scoring.score import BenchmarkScore, score_benchmark
from ckd_core.locks import folder_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ProcessPoolExecutor

    from ckd_core.evaluation.running.jobs import Job, Outcome
    from ckd_core.evaluation.running.plan import RunPlan

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
    jobs = open_jobs(plan, resumed)
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
        lines = [f"  {name}: {reason}" for name, reason in failures.items()]
        raise RunError(f"{len(failures)} of {len(inputs)} sequences failed; the others are kept:", *lines)
    ordered = {name: records[name] for name in inputs.names}
    tracks = {name: benchmark_track(record, inputs.rule, plan.integer_boxes) for name, record in ordered.items()}
    score = score_benchmark(inputs.rule, inputs.scored_truths(), tracks, plan.tracker.label)
    return RunResult(plan, ordered, score, resumed)


def _execute(plan: RunPlan, jobs: list[Job], pool: ProcessPoolExecutor | None) -> Iterator[Outcome]:
    if plan.pool == "ray":
        return work_on_ray(plan, jobs)
    return work_here(jobs) if pool is None else work_in_processes(pool, jobs)
