"""What a run puts on disk: its whole state, a batch that broke it, and the weights for tracking."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ckd_core.models.checkpoint import metadata_of, save_tensors
from ckd_core.models.registry import build_model
from ckd_core.settings import SettingsError, build, differences, to_plain
from ckd_core.training.config import FREE_KEYS, TrainSettings
from ckd_core.training.optim import MovingAverage, optimizer_tensors, restore_optimizer
from ckd_core.training.state_file import RunStateError, load_checkpoint, part, save_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.data.pairs import TrainingBatch
    from ckd_core.models.network import TrackingNetwork


@dataclass(frozen=True, slots=True)
class LiveState:
    """Objects of a run that change while it trains."""

    network: TrackingNetwork
    optimizer: torch.optim.Optimizer
    names: list[list[str]]
    average: MovingAverage | None
    scaler: torch.amp.GradScaler


def save(path: Path, settings: TrainSettings, live: LiveState, state: dict[str, Any]) -> None:
    """Write network, optimiser, average and `state`, together with the settings they belong to."""
    tensors = {f"model/{name}": value for name, value in live.network.state_dict().items()}
    tensors |= {f"optimizer/{name}": v for name, v in optimizer_tensors(live.optimizer, live.names).items()}
    if live.average is not None:
        tensors |= {f"average/{name}": value for name, value in live.average.values.items()}
    save_checkpoint(path, tensors, state | {"settings": to_plain(settings), "scaler": live.scaler.state_dict()})


def restore(path: Path, settings: TrainSettings, live: LiveState) -> dict[str, Any]:
    """Load a checkpoint into `live` and return its state.

    Raises:
        RunStateError: a missing or broken file, or the checkpoint of another run.
        OptimError: an optimiser state of other parameter groups.
    """
    tensors, state = load_checkpoint(path)
    require_same(path, state["settings"], settings)
    try:
        live.network.load_state_dict(part(tensors, "model"), strict=True)
    except RuntimeError as error:
        raise RunStateError(f"{path} does not fit this network: {error}") from error
    restore_optimizer(live.optimizer, live.names, part(tensors, "optimizer"))
    if live.average is not None:
        for name, value in part(tensors, "average").items():
            live.average.values[name].copy_(value)
    live.scaler.load_state_dict(state["scaler"])
    return state


def require_same(path: Path, stored: dict[str, Any], settings: TrainSettings) -> None:
    """Refuse a checkpoint whose settings would train something else than these. More epochs than there are no change.

    Raises:
        RunStateError: keys differ that are not among `FREE_KEYS`, or more epochs would change those that are done.
    """
    changed = {
        k: v for k, v in differences(_completed(stored), to_plain(settings)).items() if not k.startswith(FREE_KEYS)
    }
    old, new = changed.get("run.epochs", (0, 0))
    if new > old:
        if settings.optim.schedule.kind == "cosine":
            raise RunStateError(
                f"{path} is of a run of {old} epochs with a cosine schedule, which {new} epochs would have made "
                f"another one from the first step on; expected run.epochs={old}, or a new run from its weights"
            )
        del changed["run.epochs"]
    if changed:
        listed = "; ".join(f"{key}: {old!r} there, {new!r} here" for key, (old, new) in list(changed.items())[:5])
        raise RunStateError(f"{path} is of a run with another configuration ({listed}); expected the same settings")


def _completed(stored: dict[str, Any]) -> dict[str, Any]:
    """The settings of a checkpoint with the defaults of keys that were not there when it was written."""
    try:
        completed: dict[str, Any] = to_plain(build(TrainSettings, stored, "the checkpoint"))
    except SettingsError:
        return stored
    return completed


def save_batch(path: Path, batch: TrainingBatch, step: int, reason: str) -> None:
    """Write a batch for inspection."""
    tensors = {
        "template": batch.template,
        "search": batch.search,
        "template_box": batch.template_box,
        "search_box": batch.search_box,
        "index": batch.index,
    }
    save_checkpoint(path, tensors, {"step": step, "reason": reason, "sources": list(batch.sources)})


def export(path: Path, network: TrackingNetwork, settings: TrainSettings, step: int, values: dict[str, float]) -> None:
    """Write the weights alone, as the tracker loads them; what only training needs (CKD's teachers) stays out."""
    overrides = dataclasses.asdict(network.config)
    if overrides.get("teachers"):
        overrides["teachers"] = False
    with torch.device("meta"):
        alone = build_model(network.name, **overrides)
    tensors = network.state_dict()
    reached = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if name.startswith(("val/", "choice/")))
    source = f"trained for {step} steps of {settings.run.batch_size} pairs, seed {settings.run.seed}; {reached}"
    metadata = metadata_of(alone, settings.model.modalities, source.rstrip("; "))
    metadata = dataclasses.replace(metadata, tracking={"published_geometry": published_crops(settings)})
    save_tensors(path, {name: tensors[name] for name in alone.state_dict()}, metadata)


def published_crops(settings: TrainSettings) -> bool:
    """Whether a run learns from crops on whole pixels, as sequences are cut; synthetic pairs have exact ones."""
    return any(source.kind == "sequences" for source in settings.data.train)
