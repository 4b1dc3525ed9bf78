"""`sdstrack align`: the homography from colour to an auxiliary camera that no driver registers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[Path, typer.Argument(help="Recording, or folder with visible/ and infrared|depth|event/.")],
    modality: Annotated[
        str | None, typer.Option(help="depth, thermal or event; needed for a recording, a folder shows it.")
    ] = None,
    rgb: Annotated[str, typer.Option(help="Colour topic; default: found by its name.")] = "",
    aux: Annotated[str, typer.Option(help="Topic of the auxiliary camera; default: found by its name.")] = "",
    board: Annotated[
        str, typer.Option(help="Inner corners of a checkerboard that both see, such as 9x6; default: edges.")
    ] = "",
    overlay: Annotated[Path, typer.Option(help="Picture of both views on each other.")] = Path("out/align.png"),
    config: Annotated[Path | None, typer.Option(help="Parameter file to write aux_homography into.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write that file here instead.")] = None,
) -> None:
    """Find aux_homography from a checkerboard or from edges; print the residual, draw an overlay.

    Example: sdstrack align walk --modality thermal --config config/flir_rgbt.yaml --out mine.yaml
    """
    from ckd_core.replay.recording import parse_modality
    from sdstrack_ros.bags.align import align_cameras
    from sdstrack_ros.bags.frames import BagTopics

    corners: tuple[int, int] | None = None
    if board:
        columns, _, rows = board.lower().partition("x")
        if not (columns.isdigit() and rows.isdigit() and 3 <= int(columns) <= 50 and 3 <= int(rows) <= 50):
            raise typer.BadParameter(
                f"'{board}'; expected inner corners such as 9x6, from 3 to 50", param_hint="--board"
            )
        corners = int(columns), int(rows)
    if out is not None and config is None:
        raise typer.BadParameter("needs --config, the file to complete", param_hint="--out")
    for line in align_cameras(source, parse_modality(modality), BagTopics(rgb, aux), corners, overlay, config, out):
        typer.echo(line)
