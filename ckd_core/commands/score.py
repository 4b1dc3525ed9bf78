"""`sdstrack score`: raw result files of any tracker against a benchmark's annotations."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotations when it runs
from typing import Annotated

import typer

from ckd_core.commands._say import say


def command(
    results: Annotated[list[Path], typer.Argument(help="Folders or archives (tar.gz, zip), one per tracker.")],
    benchmark: Annotated[str, typer.Option("--benchmark", "-b", help="lasher, rgbt234, rgbt210, gtot, visevent, ...")],
    truth: Annotated[
        Path | None, typer.Option(help="Annotations: folder, archive or dataset; default: groundtruth beside RESULTS.")
    ] = None,
    attributes: Annotated[Path | None, typer.Option(help="Folder or archive with the challenge attributes.")] = None,
    layout: Annotated[
        str | None, typer.Option(help="Meaning of the results' numbers: xywh, corners or polygon.")
    ] = None,
    missing: Annotated[str, typer.Option(help="Sequences without results: error, skip or zero.")] = "error",
    out: Annotated[Path | None, typer.Option(help="Write all numbers as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a folder with report.html, JSON and CSV.")] = None,
) -> None:
    """Score raw results, and report the format that they are in.

    Example: sdstrack score APFNet.tar.gz MTNet.tar.gz --benchmark lasher --truth lasher_gt/
    """
    from ckd_core.evaluation.scoring.score_files import print_scores, score_files, write_scores
    from ckd_core.locks import folder_lock

    scores = score_files(results, benchmark, truth, attributes, layout, missing, echo=say)
    print_scores(scores)
    if out:
        with folder_lock(out.parent, "sdstrack score"):
            write_scores(scores, out)
        say(f"wrote {out}")
    if report:
        from ckd_core.evaluation.report.write import write_report

        with folder_lock(report, "sdstrack score"):
            say(f"wrote {write_report(report, scores)}")
