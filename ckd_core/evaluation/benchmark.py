"""What the verbs `benchmark` and `robustness` do, as functions."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.report.policies import policy_markdown, policy_table
from ckd_core.evaluation.report.table_files import rows_to_markdown, write_table
from ckd_core.evaluation.report.tables import (
    NO_GROUPS,
    modality_markdown,
    modality_table,
    origin_of,
    read_groups,
    robustness_table,
)
from ckd_core.evaluation.running.manifest import require_folder
from ckd_core.evaluation.running.runner import RunError, RunPlan, require_whole, run_benchmark
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.evaluation.scoring.score_files import print_scores, write_scores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ckd_core.evaluation.running.conditions import Condition

    Progress = Callable[[str, int, int], object]


def open_plan(
    *,
    dataset: str,
    root: Path,
    out: Path,
    model: str,
    weights: Path | None,
    condition: Condition,
    split: str | None = None,
    sequences: str | None = None,
    engine: str = "torch/fp32",
    device: str = "auto",
    published: bool = False,
    missing: str | None = None,
    workers: int = 1,
    threads: int = 0,
    pool: str = "local",
    ray_address: str | None = None,
    restart: bool = False,
    skip_broken: bool = False,
    cut: bool = False,
    echo: Callable[[str], object] = lambda _: None,
) -> RunPlan:
    """Check everything that can be checked before work starts; parameters as the options of `sdstrack benchmark`.

    Raises DatasetError, RunError (naming every missing or broken sequence), TrackerConfigError, EngineError, and
    ManifestError where `out` can be no folder.
    """
    from dataclasses import replace

    from ckd_core.tracking.config import MissingPolicy, TrackerConfig

    config = TrackerConfig().as_published() if published else TrackerConfig()
    if missing is not None:
        known = [policy.value for policy in MissingPolicy]
        if missing not in known:
            raise RunError(f"missing={missing!r}; expected one of {', '.join(known)}")
        config = replace(config, missing=MissingPolicy(missing))
    require_folder(out)
    devices = tuple(part.strip() for part in device.split(",") if part.strip())
    named = _engine_of_all(model, weights, engine, devices, pool)
    found = open_dataset(dataset, root, split, cut)
    if sequences:
        found = found.select([name.strip() for name in sequences.split(",")])
    found = require_whole(found, skip_broken, echo)
    plan = RunPlan(
        dataset=found,
        tracker=ModelSpec(model, weights, named, config),
        out=out,
        condition=condition,
        workers=workers,
        devices=devices,
        threads=threads,
        pool=pool,
        ray_address=ray_address,
        restart=restart,
    )
    frames = "one worker" if workers == 1 else f"{workers} workers"
    echo(
        f"{found.layout.name}: {len(found)} sequences, {frames}, {plan.worker_threads} threads each, {device}, {named}"
    )
    return plan


def _engine_of_all(model: str, weights: Path | None, engine: str, devices: Sequence[str], pool: str) -> str:
    """Name of the one engine that every worker has: a table's numbers are those of one engine.

    Raises RunError where `auto` would be several, and what `resolve_engine` raises.
    """
    from ckd_core.tracking.engines.build import resolve_engine

    if engine == "auto" and pool != "local":
        raise RunError(f"engine 'auto' may differ between the machines of the pool {pool!r}; name one, e.g. torch/fp32")
    found = {device: resolve_engine(model, weights, engine, device) for device in devices or ("auto",)}
    if len(set(found.values())) > 1:
        chosen = ", ".join(f"{name} on {device}" for device, name in found.items())
        raise RunError(f"engine 'auto' would be {chosen}; name one for all, e.g. torch/fp32")
    return next(iter(found.values()))


@contextmanager
def print_progress() -> Iterator[Progress]:
    """Progress bar over sequences on the terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns) as bar:
        task = bar.add_task("", total=None)

        def show(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=name)

        yield show


def run_and_report(plan: RunPlan, report: bool, progress: Progress) -> list[Path]:
    """Run, print the numbers, write score.json and (unless switched off) the report. Returns what was written."""
    result = run_benchmark(plan, progress)
    print_scores([result.score])
    write_scores([result.score], plan.out / "score.json")
    written = [plan.out / "score.json"]
    if report:
        from ckd_core.evaluation.report.write import report_run, write_report

        written.append(write_report(plan.out, [result.score], [report_run(result)]))
    return written


def _finish(rows: Sequence[object], out: Path, name: str, text: str) -> list[Path]:
    from rich.console import Console

    Console().print(text, highlight=False, markup=False, soft_wrap=True)
    return write_table(rows, out, name, text)


def run_modalities(
    plan: RunPlan, table: str, nanotrack: Path | None, groups: Path | None, progress: Progress
) -> list[Path]:
    """Table over cameras: both, colour alone, auxiliary alone. Raises RunError for another table's name."""
    if table != "modalities":
        raise RunError(f"no table {table!r}; there is modalities")
    kinds = NO_GROUPS if groups is None else read_groups(groups)
    rows = modality_table(plan, nanotrack, progress, kinds)
    return _finish(rows, plan.out, "modalities", modality_markdown(rows, origin_of(plan.tracker)))


def run_robustness(plan: RunPlan, conditions: Sequence[str], progress: Progress) -> list[Path]:
    """Table over conditions: full -> missing or spoilt."""
    rows = robustness_table(plan, conditions, progress)
    return _finish(rows, plan.out, "robustness", rows_to_markdown(rows))


def run_policies(
    plan: RunPlan, policies: Sequence[str], conditions: Sequence[str], synthetic: bool, progress: Progress
) -> list[Path]:
    """Table over stand-ins for a missing image; raises TableError."""
    rows = policy_table(plan, policies, conditions, progress, synthetic)
    return _finish(rows, plan.out, "policies", f"{origin_of(plan.tracker)}\n\n{policy_markdown(rows)}")
