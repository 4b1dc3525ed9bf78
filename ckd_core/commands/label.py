"""`sdstrack label`: boxes for a recipe's clips that have none, from a teacher tracker."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from ckd_core.commands._say import say


def command(
    config: Annotated[Path, typer.Argument(help="A training recipe with a source of kind features.")],
    teacher: Annotated[Path, typer.Option(help="Folder of NanoTrack v2's two ONNX files.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Changes to the recipe, e.g. data.train.0.root=DIR.")
    ] = None,
    again: Annotated[bool, typer.Option(help="Replace tracks that exist already.")] = False,
    sheet: Annotated[Path | None, typer.Option(help="Also write a contact sheet of all tracks here (PNG).")] = None,
) -> None:
    """Track people, warm and moving objects through the clips; keep tracks that backward tracking confirms.

    Writes the recipe's file of tracks. Look at the contact sheet: errors that detector and teacher share remain.
    """
    from ckd_core.data.real.features import FeatureSource
    from ckd_core.data.real.label import label_material
    from ckd_core.locks import folder_lock
    from ckd_core.settings import read_settings
    from ckd_core.training.config import TrainSettings

    settings = read_settings(config, TrainSettings, changes or [])
    sources = [source for source in settings.data.train if isinstance(source, FeatureSource)]
    for source in sources:
        with folder_lock(source.tracks.parent, "sdstrack label"):
            if source.tracks.exists() and not again:
                say(f"{source.tracks} is there already; --again makes it anew")
                continue
            clips = label_material(source, teacher, say, sheet)
        say(f"{source.tracks}: {sum(map(len, clips.values()))} tracks in {len(clips)} clips")
    if not sources:
        raise typer.BadParameter(f"{config} has no source of kind features under data.train; expected one to label")
