"""NanoTrack on each camera by itself, and per sequence on the better one: what somebody without fusion could have.

Which camera is better is known only afterwards, so this is more than a user gets: a bar that fusion has to reach.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckd_core.evaluation.running.manifest import claim_folder, require_folder, sequence_digest
from ckd_core.evaluation.running.records import benchmark_track, write_record
from ckd_core.evaluation.running.runner import RunResult, run_benchmark
from ckd_core.evaluation.running.trackers import BETTER, NanoTrackSpec
from ckd_core.evaluation.scoring.score import score_benchmark
from ckd_core.locks import folder_lock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import ProcessPoolExecutor
    from pathlib import Path

    from ckd_core.evaluation.running.plan import RunPlan
    from ckd_core.evaluation.running.runner import Progress


def nanotrack_plans(plan: RunPlan, weights: Path) -> dict[str, RunPlan]:
    """The same run with NanoTrack on colour, and on the auxiliary cameras where there are any; a folder each in `out`.

    Args:
        plan: What to run; its tracker does not matter.
        weights: Folder of the two ONNX files.
    """
    double = plan.inputs.two_cameras
    inputs = {"rgb": plan.inputs} | ({"aux": plan.inputs.select(double)} if double else {})
    return {
        stream: replace(
            plan, inputs=shown, tracker=NanoTrackSpec(weights, stream), out=plan.out / f"nanotrack_{stream}"
        )
        for stream, shown in inputs.items()
    }


def run_nanotrack(
    plan: RunPlan, weights: Path, progress: Progress = lambda *_: None, pool: ProcessPoolExecutor | None = None
) -> dict[str, RunResult]:
    """Results by camera, "rgb" and, where there is a second one, "aux" and "better".

    The better camera has the larger success by the benchmark's rule, the colour camera where both are equal. Its result
    is a run of its own, in the folder `nanotrack_better`.

    Raises:
        RunError: As `run_benchmark`; so is ManifestError.
    """
    found = {stream: run_benchmark(part, progress, pool) for stream, part in nanotrack_plans(plan, weights).items()}
    if "aux" in found:
        tracker, folder = NanoTrackSpec(weights, BETTER), plan.out / "nanotrack_better"
        found[BETTER] = _better(replace(plan, tracker=tracker, out=folder), list(found.values()))
    return found


def run_tracker(
    plan: RunPlan, progress: Progress = lambda *_: None, pool: ProcessPoolExecutor | None = None
) -> RunResult:
    """As `run_benchmark`, also with NanoTrack on the better camera; its single cameras are then in folders of `out`."""
    tracker = plan.tracker
    if not isinstance(tracker, NanoTrackSpec) or tracker.stream != BETTER:
        return run_benchmark(plan, progress, pool)
    plans = nanotrack_plans(plan, tracker.folder)
    return _better(plan, [run_benchmark(part, progress, pool) for part in plans.values()])


def _better(plan: RunPlan, cameras: Sequence[RunResult]) -> RunResult:
    plan = replace(plan, inputs=plan.inputs.under(plan.condition))
    inputs, name_of_success = plan.inputs, plan.inputs.rule.success_name
    success = [{item.name: item.metrics[name_of_success] for item in camera.score.sequences} for camera in cameras]
    records = {}
    for name in inputs.names:
        known = [number for number, camera in enumerate(cameras) if name in camera.records]
        records[name] = cameras[max(known, key=lambda number: success[number][name])].records[name]
    digests = {name: sequence_digest(inputs.sequences[name]) for name in inputs.names}
    require_folder(plan.out)
    with folder_lock(plan.out, "sdstrack benchmark"):
        claim_folder(plan.out, plan.decisive(), plan.circumstances(), digests, plan.restart)
        for record in records.values():
            write_record(record, plan.out, inputs.rule, plan.integer_boxes)
    tracks = {name: benchmark_track(record, inputs.rule, plan.integer_boxes) for name, record in records.items()}
    return RunResult(plan, records, score_benchmark(inputs.rule, inputs.scored_truths(), tracks, plan.tracker.label))
