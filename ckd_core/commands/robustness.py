"""`sdstrack robustness`: what a missing or degraded camera costs."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands._options import with_options
from ckd_core.commands._say import say
from ckd_core.evaluation.running.options import BenchmarkOptions  # noqa: TC001  # typer reads the annotations


@with_options(leave_out=("published", "integer_boxes", "condition", "cut", "pool", "ray_address", "gpu_share"))
def command(
    options: BenchmarkOptions,
    conditions: Annotated[
        str | None,
        typer.Option(
            help="NAME, optionally with =AMOUNT and @rgb, @aux or @both; separated by commas. Missing: rgb_only, "
            "aux_only, rgb_gap, aux_gap, rgb_gone, aux_gone (frames), switching, bursts. Degraded: blackout, noise, "
            "blur, overexposed, smoke, occluded (share), misaligned (px), offset (ms), late (frames), jpeg (quality). "
            "The run: rate (every Nth frame), start_box (share). masks=FILE: published flags [rgb, aux] per frame. Or "
            "a set: everyday (default), missing (default with --policies)."
        ),
    ] = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="robustness_sequences.csv of another tracker, whose losses are the limit."),
    ] = None,
    policies: Annotated[
        str | None,
        typer.Option(help="Instead: compare policies for a missing image, such as zeros,last,duplicate,alone."),
    ] = None,
    synthetic: Annotated[bool, typer.Option(help="With --policies: also on synthetic clips.")] = True,
) -> None:
    """Table "full -> missing or degraded": every sequence with two cameras, under every condition.

    Example: sdstrack robustness -d folder --root sequences/ --out runs/robust --conditions bursts,misaligned=8
    """
    from ckd_core.evaluation.benchmark import open_plan, print_progress, run_policies, run_robustness
    from ckd_core.evaluation.running.conditions import named_conditions
    from ckd_core.evaluation.running.manifest import require_folder
    from ckd_core.locks import folder_lock

    wanted = named_conditions(conditions or ("everyday" if policies is None else "missing"))
    plan = open_plan(options, say)
    require_folder(plan.out)
    with folder_lock(plan.out, "sdstrack robustness"), print_progress() as progress:
        if policies is None:
            written = run_robustness(plan, wanted, progress, baseline)
        else:
            written = run_policies(plan, policies.split(","), wanted, synthetic, progress)
    for path in written:
        say(f"wrote {path}")
