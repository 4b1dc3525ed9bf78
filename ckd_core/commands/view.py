"""`sdstrack view`: a run as a recording for the rerun viewer."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs
from ckd_core.commands._say import say


def command(
    result: Annotated[Path, typer.Argument(help="Folder of a run of `sdstrack benchmark`.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the dataset, for the images.")] = None,
    sequences: options.Sequences = None,
    score_maps: Annotated[
        bool,
        typer.Option("--score-maps", help="Also track again, as published, and show score maps over search regions."),
    ] = False,
    weights: Annotated[
        Path | None, typer.Option(help="With --score-maps: the run's weights, where they are not the package's own.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Default: RESULT/run.rrd.")] = None,
) -> None:
    """Write a .rrd file: images, boxes, score and state over time. Open it with `rerun FILE`."""
    from ckd_core.evaluation.report.rerun_view import network_of_run, write_recording

    target = out or result / "run.rrd"
    wanted = [n.strip() for n in sequences.split(",")] if sequences else None
    network = network_of_run(result, weights) if score_maps else None
    names = write_recording(result, target, root, wanted, network)
    say(f"wrote {target}: {len(names)} sequences; open it with: rerun {target}")
