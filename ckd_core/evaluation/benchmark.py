"""What the verbs `benchmark` and `robustness` do, as functions."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING

from ckd_core.data.datasets import open_dataset
from ckd_core.data.name_lists import expand_names
from ckd_core.evaluation.report.figures import (
    box_rows,
    compared_tracks,
    honesty_table,
    state_rows,
    tracks_of,
)
from ckd_core.evaluation.report.policies import policy_markdown, policy_table
from ckd_core.evaluation.report.robustness import MAX_MORE_THAN_BASELINE, read_baseline, robustness_table
from ckd_core.evaluation.report.table_files import rows_to_markdown, table_paths, write_table
from ckd_core.evaluation.report.tables import (
    MEAN,
    fusion_rows,
    modality_markdown,
    modality_table,
    origin_of,
    read_groups,
    split_groups,
)
from ckd_core.evaluation.running.better_camera import run_tracker
from ckd_core.evaluation.running.conditions import parse_condition
from ckd_core.evaluation.running.inputs import RunError, open_inputs
from ckd_core.evaluation.running.manifest import require_folder
from ckd_core.evaluation.running.one_step import one_step_table
from ckd_core.evaluation.running.options import BenchmarkOptions
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.trackers import BETTER, ModelSpec, NanoTrackSpec
from ckd_core.evaluation.scoring.score_files import print_scores, write_scores
from ckd_core.files import discard
from ckd_core.text import shown
from ckd_core.tracking.config import MissingPolicy, TrackerConfig
from ckd_core.tracking.engines.origin import model_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ckd_core.evaluation.report.figures import StateRow
    from ckd_core.evaluation.running.runner import Progress
    from ckd_core.evaluation.running.trackers import TrackerSpec


TABLES = ("boxes", "states", "modalities", "one-step")


def open_plan(options: BenchmarkOptions, echo: Callable[[str], object] = lambda _: None) -> RunPlan:
    """Open and check everything that can be checked before work starts.

    Args:
        options: What is asked for.
        echo: Receives a line on the plan, and the list of the sequences that are left out.

    Raises:
        ConditionError: An unknown condition.
        RunError: An unknown policy for a missing image, an engine that differs between devices, or missing and broken
            sequences, all of them listed.
        EngineError: An engine that is unknown or not available.
        ManifestError: A folder `out` that cannot exist.
        DatasetError: A dataset, split or sequence that does not exist.
        WeightsFileError: Weights that cannot be read, or that were trained with another kind of auxiliary camera.

    """
    condition = parse_condition(options.condition, options.seed)
    if options.integer_boxes and not options.published:
        raise RunError("--integer-boxes belongs to the published harness; expected --published beside it")
    if options.ego_motion and options.published:
        raise RunError("--ego-motion is no part of the published tracker; leave it or --published out")
    require_folder(options.out)
    tracker, runs_on = _tracker_of(options)
    dataset = open_dataset(options.dataset, options.root, options.split, options.cut)
    if options.sequences:
        dataset = dataset.select(list(expand_names(name.strip() for name in options.sequences.split(","))))
    plan = RunPlan(
        open_inputs(dataset, options.skip_broken, echo),
        tracker,
        options.out,
        condition,
        options.integer_boxes,
        device=options.device,
        workers=options.workers,
        threads=options.threads,
        pool=options.pool,
        ray_address=options.ray_address,
        gpu_share=options.gpu_share,
        restart=options.restart,
    )
    workers = "one worker" if plan.workers == 1 else f"{plan.workers} workers"
    echo(
        f"{dataset.layout.name}: {len(plan.inputs)} sequences, {workers}, {plan.worker_threads} threads each, "
        f"{plan.device}, {runs_on}"
    )
    return plan


def _tracker_of(options: BenchmarkOptions) -> tuple[TrackerSpec, str]:
    """The tracker, and what it runs on in a word.

    Raises:
        RunError: A tracker of another name, or options that it does not have.
        EngineError: As `resolve_engine`.

    """
    if options.tracker == "network":
        config = _tracker_config(options)
        options = replace(options, model=model_of(options.model, options.weights))
        engine, reason = _engine_of_all(options)
        model = str(options.model)
        permitted, foreseen = options.any_modality, options.ego_motion
        spec = ModelSpec(model, options.weights, engine, config, any_modality=permitted, ego_motion=foreseen)
        return spec, f"{engine} ({reason})"
    if options.tracker != "nanotrack":
        raise RunError(f"unknown tracker {options.tracker!r}; expected network or nanotrack")
    if options.weights is None:
        raise RunError("nanotrack has no weights in this package; give the folder of its two ONNX files as --weights")
    own = {field.name: field.default for field in fields(BenchmarkOptions)}
    names = ("model", "engine", "published", "missing", "any_modality", "ego_motion")
    unused = [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) != own[name]]
    if unused:
        raise RunError(f"nanotrack has no {', '.join(unused)}; leave them out")
    return NanoTrackSpec(options.weights, BETTER), "OpenCV on the CPU"


def _tracker_config(options: BenchmarkOptions) -> TrackerConfig:
    config = TrackerConfig().as_published() if options.published else TrackerConfig()
    if options.missing is None:
        return config
    policies = [policy.value for policy in MissingPolicy]
    if options.missing not in policies:
        raise RunError(f"missing={options.missing!r}; expected one of {', '.join(policies)}")
    return replace(config, missing=MissingPolicy(options.missing))


def _engine_of_all(options: BenchmarkOptions) -> tuple[str, str]:
    """Name of the one engine that every worker has, since a table's numbers are those of one, and how it was chosen.

    Raises:
        RunError: `auto` would be several engines.
        EngineError: As `resolve_engine`.

    """
    from ckd_core.tracking.engines.build import resolve_engine

    engine = options.engine
    if engine == "auto" and options.pool != "local":
        raise RunError(
            f"engine 'auto' may differ between the machines of the pool {options.pool!r}; name one, e.g. torch/fp32"
        )
    engines = {
        device: resolve_engine(str(options.model), options.weights, engine, device, options.threads)
        for device in options.devices or ("auto",)
    }
    if len({choice.engine for choice in engines.values()}) > 1:
        chosen = ", ".join(f"{choice.engine} on {device}" for device, choice in engines.items())
        raise RunError(f"engine 'auto' would be {chosen}; name one for all, e.g. torch/fp32")
    choice = next(iter(engines.values()))
    return choice.engine, choice.reason


@contextmanager
def print_progress() -> Iterator[Progress]:
    """Progress bar over sequences on the terminal."""
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns) as bar:
        task = bar.add_task("", total=None)

        def show(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=escape(shown(name)))

        yield show


def run_and_report(plan: RunPlan, report: bool, progress: Progress) -> list[Path]:
    """Run, print the numbers and write them, with `report` also the page; returns the paths."""
    from ckd_core.evaluation.report.write import REPORT_FILES, write_report

    result = run_tracker(plan, progress)
    discard(path for name in ("boxes", "states") for path in table_paths(plan.out, name))
    discard(plan.out / name for name in ("score.json", *REPORT_FILES))
    print_scores([result.score], plan.inputs.dataset.split)
    write_scores([result.score], plan.out / "score.json")
    label, tracks = plan.tracker.label, tracks_of(result)
    boxes, states = box_rows(label, tracks), state_rows(label, tracks)
    for rows in (boxes, states):
        _show(rows_to_markdown([row for row in rows if row.sequence == MEAN]))
    _show(honesty_table(states))
    written = [plan.out / "score.json", *write_table(boxes, plan.out, "boxes")]
    written += write_table(states, plan.out, "states", _states_text(states))
    if report:
        from ckd_core.evaluation.report.runs import report_run

        written.append(write_report(plan.out, [result.score], [report_run(result)]))
    return written


def _show(text: str) -> None:
    from rich.console import Console

    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def _finish(rows: Sequence[object], out: Path, name: str, text: str) -> list[Path]:
    _show(text)
    return write_table(rows, out, name, text)


def _states_text(rows: Sequence[StateRow]) -> str:
    return f"{rows_to_markdown(rows)}\n{honesty_table(rows)}"


def run_table(plan: RunPlan, table: str, nanotrack: Path | None, groups: Path | None, progress: Progress) -> list[Path]:
    """One of `TABLES`, beside NanoTrack where its folder is given; returns the paths.

    Raises:
        RunError: A table of another name.

    """
    if table not in TABLES:
        raise RunError(f"unknown table {table!r}; expected one of {', '.join(TABLES)}")
    if table == "boxes":
        tracks = compared_tracks(plan, nanotrack, progress)
        boxes = [row for label, found in tracks.items() for row in box_rows(label, found)]
        return _finish(boxes, plan.out, table, rows_to_markdown(boxes))
    if table == "states":
        tracks = compared_tracks(plan, nanotrack, progress)
        states = [row for label, found in tracks.items() for row in state_rows(label, found)]
        return _finish(states, plan.out, table, _states_text(states))
    if not isinstance(plan.tracker, ModelSpec):
        raise RunError(f"table {table} is about a network; NanoTrack stands beside it with --nanotrack FOLDER")
    if table == "one-step":
        steps = one_step_table(plan, nanotrack, progress)
        return _finish(steps, plan.out, "one-step", rows_to_markdown(steps))
    rows = modality_table(plan, nanotrack, progress, split_groups() if groups is None else read_groups(groups))
    written = write_table(fusion_rows(rows), plan.out, "fusion")
    return [*_finish(rows, plan.out, "modalities", modality_markdown(rows, origin_of(plan.tracker))), *written]


def run_robustness(
    plan: RunPlan, conditions: Sequence[str], progress: Progress, baseline: Path | None = None
) -> list[Path]:
    """Table over conditions (full -> missing or degraded), its rows by sequence, and a page; returns the paths.

    Raises:
        TableError: A baseline that cannot be read, or that lacks a sequence or a condition.

    """
    from ckd_core.evaluation.report.page import noted_table
    from ckd_core.evaluation.report.write import REPORT_FILES, write_report

    table = robustness_table(plan, conditions, progress, None if baseline is None else read_baseline(baseline))
    discard([*table_paths(plan.out, "robustness_sequences"), *(plan.out / name for name in REPORT_FILES)])
    written = _finish(table.rows, plan.out, "robustness", rows_to_markdown(table.rows))
    written += write_table(table.sequences, plan.out, "robustness_sequences")
    note = (
        f"{plan.tracker.label} on {len(table.scores[0].sequences)} sequences with two cameras. A loss is a negative "
        "change of the mean success AUC against full; within: it is at most the baseline's and "
        f"{MAX_MORE_THAN_BASELINE:g}. The frame of the initial box does not count here, unlike below."
    )
    first = [noted_table("Robustness", note, table.rows)]
    written.append(write_report(plan.out, table.scores, title=f"Robustness of {plan.tracker.label}", first=first))
    return written


def run_policies(
    plan: RunPlan, policies: Sequence[str], conditions: Sequence[str], synthetic: bool, progress: Progress
) -> list[Path]:
    """Table over policies for a missing image; returns the paths.

    Raises:
        TableError: An unknown policy, or nothing that they could differ in.

    """
    rows = policy_table(plan, policies, conditions, progress, synthetic)
    return _finish(rows, plan.out, "policies", f"{origin_of(plan.tracker)}\n\n{policy_markdown(rows)}")
