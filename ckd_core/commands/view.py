"""`sdstrack view`: a run as a recording for the rerun viewer."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands import _options as options  # noqa: TC001  # typer reads the annotations when it runs


def command(
    result: Annotated[Path, typer.Argument(help="Folder of a run of `sdstrack benchmark`.")],
    root: Annotated[Path | None, typer.Option(help="Folder of the dataset, for the images.")] = None,
    sequences: options.Sequences = None,
    out: Annotated[Path | None, typer.Option(help="Default: RESULT/run.rrd.")] = None,
) -> None:
    """Write a .rrd file: images, boxes, score and state over time. Open it with `rerun FILE`."""
    from ckd_core.evaluation.report.rerun_view import write_recording

    target = out or result / "run.rrd"
    names = write_recording(result, target, root, [n.strip() for n in sequences.split(",")] if sequences else None)
    typer.echo(f"wrote {target}: {len(names)} sequences; open it with: rerun {target}")
