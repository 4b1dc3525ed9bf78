"""Settings to objects: network with its first weights, objective, pairs, trainer; and the plan of a dry run."""

from __future__ import annotations

import resource
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ckd_core.models.checkpoint import default_weights, load_strictly
from ckd_core.models.ckd import CKD
from ckd_core.models.ckd_small import CKDSmall, weights_from_shared_encoder
from ckd_core.models.published.starts import load_imagenet, read_weights, start_training_from
from ckd_core.models.registry import build_model, list_models, model_config
from ckd_core.models.sdstrack import SDSTrack
from ckd_core.models.sdstrack_medium import SDSTrackMedium
from ckd_core.models.sdstrack_small import SDSTrackSmall
from ckd_core.models.stem_network import StemNetwork
from ckd_core.objectives.base import Objective, TrackingObjective
from ckd_core.objectives.ckd import CKDObjective, CKDSettings
from ckd_core.objectives.dense import DenseObjective, DenseSettings
from ckd_core.objectives.factor import FactorObjective, FactorSettings
from ckd_core.objectives.sdstrack import SDSTrackObjective, SDSTrackSettings
from ckd_core.settings import SettingsError, typed_fields
from ckd_core.training.batches import StepIndices, load_batches
from ckd_core.training.loop import Trainer
from ckd_core.training.optim import describe_groups
from ckd_core.training.sources import build_pairs
from ckd_core.training.state_file import load_checkpoint, part

if TYPE_CHECKING:
    from ckd_core.models.network import TrackingNetwork
    from ckd_core.training.config import InitSettings, TrainSettings

VAL_SEED_OFFSET = 1_000_003  # validation pairs are not the training ones


def build_network(settings: TrainSettings) -> TrackingNetwork:
    """Build the network and give it its first weights.

    Raises:
        SettingsError: an objective or a start that does not fit the network.
        ConfigError: an unknown network, or a configuration that cannot be built.
        PretrainedError: a start that does not fit, or is not there.
        ForeignFileError, WeightsFileError, RunStateError: the file that `model.init` names is unusable.
    """
    name = settings.model.name
    overrides = typed_fields(type(model_config(name)), settings.model.overrides, f"model {name}", "model.overrides")
    network = build_model(name, seed=settings.run.seed, **overrides)
    fitting: dict[type, tuple[type, ...]] = {
        SDSTrackSettings: (SDSTrack, SDSTrackSmall),
        CKDSettings: (CKD, CKDSmall),
        FactorSettings: (SDSTrackMedium,),
    }
    needs = fitting.get(type(settings.objective))
    if needs is not None and not isinstance(network, needs):
        raise SettingsError(
            f"objective.kind {settings.objective.kind} trains a {needs[0].__name__}; "
            f"model.name {settings.model.name} is a {type(network).__name__}"
        )
    if settings.model.init is not None:
        _initialise(network, settings.model.init)
    return network


def _initialise(network: TrackingNetwork, init: InitSettings) -> None:
    if init.kind == "imagenet_stem":
        if not isinstance(network, StemNetwork):
            raise SettingsError(f"model.init.kind imagenet_stem fills a small network's stem; {network.name} has none")
        load_imagenet(network.stem)
        return
    if init.kind == "single_stream":
        start_training_from(network, init.file or {role: str(path) for role, path in init.roles.items()})
        if isinstance(network, SDSTrack) and init.copy_patch_embed:
            network.backbone.patch_embed_multimodal.load_state_dict(network.backbone.patch_embed.state_dict())
        return
    path = first_weights(init)
    if init.kind == "shared_encoder":
        if not isinstance(network, CKDSmall):
            raise SettingsError(f"model.init.kind shared_encoder fills a small CKD network; {network.name} is none")
        network.load_state_dict(weights_from_shared_encoder(network.state_dict(), read_weights(path)))
        return
    tensors = part(load_checkpoint(path)[0], "model") if init.kind == "checkpoint" else read_weights(path)
    load_strictly(network, tensors, str(path))
    network.train()


def first_weights(init: InitSettings) -> Path:
    """The one file that a training starts from; a name of the registry stands for its weights inside the package."""
    name = str(init.file)
    return default_weights(name) if name in list_models() else Path(name)


def build_objective(settings: TrainSettings) -> Objective:
    """Make the objective that the settings name."""
    chosen = settings.objective
    if isinstance(chosen, SDSTrackSettings):
        return SDSTrackObjective(chosen)
    if isinstance(chosen, CKDSettings):
        return CKDObjective(chosen)
    if isinstance(chosen, FactorSettings):
        return FactorObjective(chosen)
    return DenseObjective() if isinstance(chosen, DenseSettings) else TrackingObjective()


def build_trainer(settings: TrainSettings) -> Trainer:
    """Everything a run needs, ready to `run()` or `resume()`."""
    network = build_network(settings)
    seed, data = settings.run.seed, settings.data
    train = build_pairs(data.train, data, network.config, seed)
    val = build_pairs(data.val, data, network.config, seed + VAL_SEED_OFFSET) if data.val else None
    return Trainer(settings, network, build_objective(settings), train, val)


def rehearse(trainer: Trainer) -> dict[str, str]:
    """Make one batch, run one real training step in memory, write nothing but say what the run will do.

    The trainer cannot be used afterwards: its weights have moved.
    """
    settings, processes = trainer.settings, trainer.processes
    run = settings.run
    started = time.perf_counter()
    indices = StepIndices(0, 1, run.batch_size, processes.rank, processes.count)
    batch = next(load_batches(trainer.train_pairs, indices, 0, pin=False))
    data_s = time.perf_counter() - started
    if trainer.val_pairs is not None:
        next(
            load_batches(
                trainer.val_pairs, StepIndices(0, 1, processes.count, processes.rank, processes.count), 0, pin=False
            )
        )
    if processes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(processes.device)
    started = time.perf_counter()
    trainer.train_mode()
    values, _ = trainer.train_step(batch.to(processes.device))
    step_s = time.perf_counter() - started
    groups = describe_groups(trainer.optimizer, trainer.names)
    total = sum(p.numel() for p in trainer.network.parameters())
    plan = {
        "network": f"{trainer.network.name}, {total / 1e6:.2f} M parameters",
        "objective": settings.objective.kind,
        "device": f"{processes.device}, {processes.count} process(es), {settings.optim.precision}",
        "batch": f"{run.batch_size} pairs = {processes.count} x {settings.optim.accumulation} parts of "
        f"{run.batch_size // (processes.count * settings.optim.accumulation)}",
        "shapes": f"template {list(batch.template.shape)}, search {list(batch.search.shape)}",
        "length": f"{run.epochs} epochs x {settings.steps_per_epoch} steps = {settings.total_steps} steps",
        "validation": "none"
        if trainer.val_pairs is None
        else f"{run.val_samples} pairs every {run.val_every} epoch(s)",
        "first loss": ", ".join(f"{name} {values[name]:.4g}" for name in ("loss", "iou", "gradient_norm")),
        "one batch": f"{data_s:.2f} s of data on one core, {step_s:.2f} s of computing (first step, cold)",
        "peak memory": _peak_memory(processes.device),
        "output": str(run.out),
        "disk": _disk(trainer),
        "skipped frames": "; ".join(batch.skipped) or "none in the first batch",
    }
    for i, group in enumerate(groups):
        plan[f"group {i}"] = (
            f"lr {group['lr']:g}, {group['tensors']} tensors, {group['parameters'] / 1e6:.3f} M parameters"
        )
    return plan


def _disk(trainer: Trainer) -> str:
    """What the checkpoints of the run will take, beside what there is."""
    run, trained = trainer.settings.run, [p for p in trainer.network.parameters() if p.requires_grad]
    tensors = [*trainer.network.state_dict().values(), *trained, *trained]  # two moments of each trained parameter
    tensors += [] if trainer.average is None else trainer.average.values.values()
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e9
    written = run.epochs // run.checkpoint_every if run.checkpoint_every else 0
    kept = min(written, run.keep_checkpoints or written)
    # `last` and `best`; the checkpoint that is being written is beside the ones that are kept.
    total = (kept + 3) * size
    place = next(path for path in (run.out.absolute(), *run.out.absolute().parents) if path.exists())
    free = shutil.disk_usage(place).free / 1e9
    advice = "" if total < free else "; TOO LITTLE: set run.keep_checkpoints, or another run.out"
    return f"{size:.2f} GB a checkpoint, {kept} of {written} kept: up to {total:.1f} GB; free {free:.1f} GB{advice}"


def _peak_memory(device: torch.device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 2**30:.2f} GiB on the device"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GiB of this process"
