"""`sdstrack cache`: features of real pairs for a recipe, computed once."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads annotations at run time
from typing import Annotated

import typer

from ckd_core.commands._say import say


def command(
    config: Annotated[Path, typer.Argument(help="A training recipe with a source of kind features.")],
    changes: Annotated[
        list[str] | None, typer.Argument(help="Changes to the recipe, e.g. data.train.0.root=DIR.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="Folder of NanoTrack v2's two ONNX files, for sources that are taught.")
    ] = None,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: all.")] = 0,
) -> None:
    """Cut pairs of the recipe and compute features of its frozen stem; a cache of the same settings and crops stays.

    Files and boxes that cannot be used are named and counted.
    """
    import torch

    from ckd_core.data.real.features import FeatureSource, cached, write_cache
    from ckd_core.locks import new_folder_lock
    from ckd_core.models.stem_network import StemNetwork
    from ckd_core.settings import read_settings
    from ckd_core.training.build import build_network
    from ckd_core.training.config import TrainSettings

    settings = read_settings(config, TrainSettings, changes or [])
    if threads:
        torch.set_num_threads(threads)
    network = build_network(settings)
    if not isinstance(network, StemNetwork):
        raise typer.BadParameter(f"{settings.model.name} has no frozen stem; features are of one")
    for source in settings.data.train:
        if not isinstance(source, FeatureSource):
            continue
        with new_folder_lock(source.cache, "sdstrack cache"):
            if cached(source, network.config):
                say(f"{source.cache} is there already")
                continue
            manifest = write_cache(source, network.config, network.stem, say, teacher)
        say(f"{source.cache}: {manifest['pairs']} pairs")
