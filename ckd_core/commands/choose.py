"""`sdstrack choose`: the checkpoint of a run that tracks best."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from ckd_core.commands._say import say


def command(
    config: Annotated[Path, typer.Argument(help="The file that the run was trained with.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Changes to it, as for sdstrack train; for example run.out=runs/a.")
    ] = None,
) -> None:
    """Let every checkpoint of a run track the recordings under `choice` in CONFIG; keep the best one's weights.

    Writes chosen.safetensors and choice.json into the run's folder. Example: sdstrack choose default_ckd_s128.yaml
    """
    from ckd_core.settings import read_settings
    from ckd_core.training.choice import CHOSEN, choose
    from ckd_core.training.config import TrainSettings

    settings = read_settings(config, TrainSettings, changes or [])
    best = choose(settings, say)[0]
    say(f"best: {best.name}, step {best.step}, {best.total:.4f}; its weights are in {settings.run.out / CHOSEN}")
