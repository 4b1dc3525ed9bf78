"""Where pairs come from, as configured: sequences on disk, synthetic scenes, or a mixture."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ckd_core.data.datasets import open_dataset
from ckd_core.data.layouts import get_layout
from ckd_core.data.name_lists import expand_names
from ckd_core.data.pairs import PairDataset, PairError, TrainingSample
from ckd_core.data.real.features import FeaturePairs, FeatureSource
from ckd_core.data.sampler import CropGeometry, SamplerSettings, SequenceGroup, SequencePairs
from ckd_core.frame import Modality
from ckd_core.models.config import NetworkConfig
from ckd_core.settings import build, limits

MIXTURE_STREAM = 97  # keeps the choice of a part apart from what that part draws with the same seed and index


@dataclass(frozen=True, slots=True)
class SequenceSource:
    """Sequences of a dataset on disk.

    Attributes:
        dataset: `lasher`, `rgbt234`, `depthtrack`, `visevent`, `vtuav`, `otb`, `got10k` or `folder` (the plain layout).
        root: The dataset's folder.
        split: Of the dataset; required where it has splits, so that test sequences are not trained on unasked.
        aux: Auxiliary modality to synthesise for colour-only sequences (`ckd_core.data.pseudo`).
        only: Names of sequences to include alone, or lists of them (@lasher_val, @FILE).
        without: The same for sequences to exclude.
        ratio: Weight in the mixture.
        kind: Names this kind of source in a recipe.
    """

    dataset: str
    root: Path
    split: str | None = None
    aux: Literal["thermal", "depth", "event"] = "thermal"
    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    ratio: float = field(default=1.0, metadata=limits(0.0))
    kind: Literal["sequences"] = "sequences"


@dataclass(frozen=True, slots=True)
class SyntheticSource:
    """Synthetic scenes (`ckd_core.data.synthetic`).

    Attributes:
        textures: See `World`.
        rgbt_folders: See `World`.
        rgbt_videos: See `World`.
        world_seed: Seed of the `World`.
        modalities: Kinds of auxiliary cameras, drawn equally often.
        options: Fields of `PairSettings` other than the crop's shape, which the network decides.
        ratio: Weight in the mixture.
        kind: Names this kind of source in a recipe.
    """

    textures: Literal["procedural", "packages"] = "procedural"
    rgbt_folders: tuple[Path, ...] = ()
    rgbt_videos: tuple[Path, ...] = ()
    world_seed: int = 0
    modalities: tuple[Literal["thermal", "depth", "event"], ...] = ("thermal", "depth", "event")
    options: dict[str, Any] = field(default_factory=dict)
    ratio: float = field(default=1.0, metadata=limits(0.0))
    kind: Literal["synthetic"] = "synthetic"


Source = SequenceSource | SyntheticSource | FeatureSource


@dataclass(frozen=True, slots=True)
class DataSettings:
    """Training and validation sources, and how pairs are drawn from sequences (both alike)."""

    train: tuple[Source, ...]
    val: tuple[Source, ...] = ()
    sampler: SamplerSettings = field(default_factory=SamplerSettings)


class MixedPairs:
    """Map-style mixture: which part serves an index depends on (seed, index) alone."""

    def __init__(self, parts: list[tuple[float, PairDataset]], seed: int) -> None:
        if not parts or sum(ratio for ratio, _ in parts) <= 0:
            raise PairError("data has no source with a ratio above 0; expected at least one")
        ratios = np.array([ratio for ratio, _ in parts])
        self.parts = [part for _, part in parts]
        self.chances = ratios / ratios.sum()
        self.seed = seed

    def __getitem__(self, index: int) -> TrainingSample:
        """Return the pair of that index."""
        rng = np.random.default_rng((self.seed, MIXTURE_STREAM, index))
        return self.parts[int(rng.choice(len(self.parts), p=self.chances))][index]


def build_pairs(sources: tuple[Source, ...], settings: DataSettings, network: NetworkConfig, seed: int) -> PairDataset:
    """Open all sources.

    Raises:
        PairError: no usable source, or a missing path or package, with its name.
        SequenceError: a sequence that cannot be used.
        DatasetError: an unknown dataset, or a folder that does not hold it.
        SettingsError: unknown or unfit options.
    """
    geometry = CropGeometry(
        network.template_size,
        network.search_size,
        network.template_factor,
        network.search_factor,
        network.square_boxes,
    )
    parts: list[tuple[float, PairDataset]] = []
    on_disk = [s for s in sources if isinstance(s, SequenceSource)]
    if on_disk:
        weight = sum(source.ratio for source in on_disk)
        if weight <= 0:
            raise PairError("every source of sequences has the ratio 0; expected one above 0")
        parts.append((weight, SequencePairs([_group(s) for s in on_disk], geometry, settings.sampler, seed)))
    parts += [(s.ratio, _synthetic(s, geometry, seed)) for s in sources if isinstance(s, SyntheticSource)]
    parts += [(s.ratio, FeaturePairs(s, network, seed)) for s in sources if isinstance(s, FeatureSource)]
    return parts[0][1] if len(parts) == 1 else MixedPairs(parts, seed)


def _group(source: SequenceSource) -> SequenceGroup:
    splits = [name for name, _ in get_layout(source.dataset).folders]
    if source.split is None and splits:
        raise PairError(f"{source.dataset} at {source.root} has no 'split'; expected one of {', '.join(splits)}")
    dataset = open_dataset(source.dataset, source.root, source.split, cut=True)
    only, without = expand_names(source.only), expand_names(source.without)
    unknown = sorted({*only, *without} - set(dataset.names))
    if unknown:
        raise PairError(
            f"{source.dataset} at {source.root} has no sequence {', '.join(unknown)}; expected names of its sequences "
            "in data.train.only and without"
        )
    names = [n for n in dataset.names if n not in without and (not only or n in only)]
    if not names:
        raise PairError(f"{source.dataset} at {source.root} has no sequence left (data.train.only/without)")
    opened = [dataset.open(name) for name in names]
    modality = Modality(source.aux)
    sequences = tuple(s if s.aux_paths else replace(s, modality=modality) for s in opened)
    return SequenceGroup(source.dataset, sequences, source.ratio, dataset.layout.min_size)


def _synthetic(source: SyntheticSource, geometry: CropGeometry, seed: int) -> PairDataset:
    from ckd_core.data.synthetic.pairs import PairSettings, SyntheticPairs
    from ckd_core.data.synthetic.textures import missing_packages
    from ckd_core.data.synthetic.world import World

    needed = [folder / side for folder in source.rgbt_folders for side in ("visible", "infrared")]
    needed += [Path(f"{stem}_{side}.mp4") for stem in source.rgbt_videos for side in ("visible", "infrared")]
    absent = [str(path) for path in needed if not path.exists()]
    if source.textures == "packages":
        absent += missing_packages()
    if absent:  # else noticed only with the first pair, perhaps in a worker
        raise PairError(
            f"data source synthetic: no {', '.join(absent)}; expected what rgbt_folders, rgbt_videos and textures name"
        )
    world = World(source.world_seed, source.textures, source.rgbt_folders, source.rgbt_videos)
    shape = {
        "template_size": geometry.template_size,
        "search_size": geometry.search_size,
        "template_factor": geometry.template_factor,
        "search_factor": geometry.search_factor,
        "square_boxes": geometry.square_boxes,
    }
    free = {f.name for f in fields(PairSettings)} - {*shape, "modalities"}
    unknown = sorted(set(source.options) - free)
    if unknown:
        raise PairError(
            f"data source synthetic: unknown options {', '.join(unknown)}; expected {', '.join(sorted(free))}"
        )
    modalities = [Modality(name) for name in source.modalities]
    chosen = build(PairSettings, {**shape, **source.options}, "data source synthetic", "options")
    return SyntheticPairs(world, replace(chosen, modalities=tuple(modalities)), seed)
