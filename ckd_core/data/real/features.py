"""The frozen stem's features of many cut pairs on disk, so that an epoch decodes no images.

A cache belongs to the settings that it was written with; other settings are refused. It holds float16 arrays that are
memory-mapped, and is written under another name until it is complete.
"""

from __future__ import annotations

import json
import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003 - settings are built from annotations at run time
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from ckd_core.data.pairs import TrainingSample
from ckd_core.data.real.crops import CutPair, PairCutter, TroubleSettings
from ckd_core.data.real.material import GroupSettings, Material, MaterialError
from ckd_core.data.real.teacher import LabelSettings, TeacherError, TeacherFeatures
from ckd_core.models.normalisation import MEAN, STD
from ckd_core.settings import limits, to_plain
from ckd_core.tracking.engines.base import EngineUnavailableError
from ckd_core.tracking.engines.exported import openvino_core

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ckd_core.models.config import NetworkConfig
    from ckd_core.models.layers.stem import FrozenStem

logger = logging.getLogger(__name__)
MANIFEST, TEMPLATE, SEARCH, BOXES = "manifest.json", "template.npy", "search.npy", "boxes.npy"
TAUGHT = {TEMPLATE: "template_teacher.npy", SEARCH: "search_teacher.npy"}  # the teacher's features of the same crops
PAIRS_PER_CALL = 16  # of the stem
FREE_KEYS = ("root", "tracks", "cache", "drop", "ratio")  # paths, and what acts in training alone
CROP_KEYS = ("template_size", "search_size", "template_factor", "search_factor", "square_boxes")  # of a network
CHOICE_STREAM, DROP_STREAM = 11, 12


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Real pairs, as stem features that `sdstrack cache` computed.

    Attributes:
        root: Folder of all material.
        groups: Kinds of material in it.
        tracks: File that `sdstrack label` writes.
        cache: Folder of the features.
        count: Pairs in the cache.
        seed: Seed of the cache.
        label: How `sdstrack label` labels.
        troubles: Further trouble of the pairs.
        taught: Whether the cache holds the teacher's features too, for an objective that imitates them.
        max_refused: Share of unusable files above which no cache is written.
        drop: Share of pairs that lose a camera in training.
        ratio: Weight in the mixture of sources.
        kind: Tells this source from others in a recipe.
    """

    root: Path
    groups: tuple[GroupSettings, ...]
    tracks: Path
    cache: Path
    count: int = field(metadata=limits(64))
    seed: int = 0
    label: LabelSettings = field(default_factory=LabelSettings)
    troubles: TroubleSettings = field(default_factory=TroubleSettings)
    taught: bool = False
    max_refused: float = field(default=0.02, metadata=limits(0.0, 1.0))
    drop: float = field(default=0.25, metadata=limits(0.0, 1.0))
    ratio: float = field(default=1.0, metadata=limits(0.0))
    kind: Literal["features"] = "features"


class FeaturePairs:
    """Map-style pairs out of a cache; each epoch in another order, each pair a pure function of (seed, index).

    A sample's template is [2 * C, t, t] and its search region [2 * C, s, s] float16, colour first. With `drop`, a pair
    loses a camera: it shows a copy of the other one, or an unrelated pair's features, in both crops or in the search
    region alone.

    Args:
        source: Where the cache is, and `drop`.
        network: Configuration of the network to train.
        seed: Seed of the order and of the lost cameras.

    Raises:
        MaterialError: No cache, or one of other settings or of crops for another network.
    """

    def __init__(self, source: FeatureSource, network: NetworkConfig, seed: int) -> None:
        manifest = read_manifest(source, network)
        self.source, self.seed, self.count = source, seed, int(manifest["pairs"])
        names = (TEMPLATE, SEARCH, *(TAUGHT.values() if source.taught else ()))
        self._arrays = tuple(np.load(source.cache / name, mmap_mode="r") for name in names)
        self._boxes = np.load(source.cache / BOXES)
        self._sources: list[str] = manifest["groups"]
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, index: int) -> TrainingSample:
        """Return the pair of that index."""
        epoch, place = divmod(index, self.count)
        if self._order is None or self._order[0] != epoch:
            order = np.random.default_rng((self.seed, CHOICE_STREAM, epoch)).permutation(self.count)
            self._order = epoch, order
        row = int(self._order[1][place])
        crops = [np.array(array[row]) for array in self._arrays]  # [2, C, h, w] copies; template, search, by whom
        box = torch.from_numpy(self._boxes[row].copy())
        rng = np.random.default_rng((self.seed, DROP_STREAM, index))
        if rng.random() < self.source.drop:
            self._drop(crops, rng)
        template, search, *taught = (torch.from_numpy(crop).flatten(0, 1) for crop in crops)
        return TrainingSample(
            template,
            search,
            torch.tensor((0.25, 0.25, 0.5, 0.5)),  # a template's box, up to the start box's own error
            box,
            f"{self.source.cache.name} pair {row}",
            teacher=(taught[0], taught[1]) if taught else None,
        )

    def _drop(self, crops: list[NDArray[np.float16]], rng: np.random.Generator) -> None:
        """Lose a camera; `crops` are templates and search regions in turn, changed in place."""
        lost, chance = int(rng.integers(2)), rng.random()
        if chance < 0.45:
            for crop in crops:
                crop[lost] = crop[1 - lost]
            return
        rows = [0, int(rng.integers(self.count))]
        if chance > 0.8:
            rows[0] = int(rng.integers(self.count))
        for number, (crop, array) in enumerate(zip(crops, self._arrays, strict=True)):
            if number % 2 or chance > 0.8:
                crop[lost] = array[rows[number % 2], lost]


def read_manifest(source: FeatureSource, network: NetworkConfig) -> dict[str, Any]:
    """Read the manifest of a cache.

    Raises:
        MaterialError: There is no cache, or it was made with other settings or with crops for another network.
    """
    path = source.cache / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        stored = {key: value for key, value in manifest["settings"].items() if key not in FREE_KEYS}
        wanted = cache_settings(source, network)
    except OSError as error:
        raise MaterialError(f"no features in {source.cache} ({error.strerror}); sdstrack cache makes them") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaterialError(f"{path} is not what sdstrack cache writes: {error}") from error
    if stored != wanted:
        changed = sorted(key for key in {*stored, *wanted} if stored.get(key) != wanted.get(key))
        raise MaterialError(
            f"{source.cache} was made with other settings ({', '.join(changed)}); run sdstrack cache again"
        )
    return manifest


def cached(source: FeatureSource, network: NetworkConfig) -> bool:
    """Whether there is a cache of these settings with crops for this network."""
    try:
        read_manifest(source, network)
    except MaterialError:
        return False
    return True


def cache_settings(source: FeatureSource, network: NetworkConfig) -> dict[str, Any]:
    """The settings that decide what a cache holds."""
    plain = {key: value for key, value in to_plain(source).items() if key not in FREE_KEYS}
    plain["crops"] = {key: getattr(network, key) for key in CROP_KEYS}
    return dict(json.loads(json.dumps(plain)))


def write_cache(
    source: FeatureSource,
    network: NetworkConfig,
    stem: FrozenStem,
    echo: Callable[[str], object] = lambda _: None,
    teacher: Path | None = None,
) -> dict[str, Any]:
    """Cut `source.count` pairs, compute their features and write the cache.

    Args:
        source: Material and cache.
        network: Configuration of the network that the crops are for.
        stem: The network's frozen stem.
        echo: Takes lines about progress and about what cannot be used.
        teacher: Folder of the teacher's files, for a source that is `taught`.

    Returns:
        The manifest: settings, number of pairs, group of each pair, what was not used.

    Raises:
        MaterialError: No material, or more than `source.max_refused` of its files cannot be used.
        TeacherError: The tracks or the teacher cannot be read.
    """
    if source.taught and teacher is None:
        raise TeacherError(
            f"{source.cache} is to hold a teacher's features (taught: true); expected the teacher's folder"
        )
    material = Material(source.root, source.groups, source.tracks, source.troubles)
    rng = np.random.default_rng(source.seed)
    cutter = PairCutter(network, material.others, source.troubles)
    part = source.cache.with_name(source.cache.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    taught = TeacherFeatures(teacher) if source.taught and teacher is not None else None
    writer = _Writer(part, source.count, network, FeatureRunner(stem), taught)
    places, groups = rng.permutation(source.count), [""] * source.count
    number = 0
    for name, pair in material.pairs(source.count, rng, network):
        if number == source.count:
            break
        writer.add(int(places[number]), pair if isinstance(pair, CutPair) else cutter.cut(pair, rng))
        groups[int(places[number])] = name.split("/")[0]
        number += 1
        if number % 1000 == 0:
            echo(f"{number} of {source.count} pairs; now {name}")
    files = sum(map(len, material.files.values()))
    for line in material.refusals.summary():
        echo(f"not used: {line}")
    if len(material.refusals.lines) > source.max_refused * files:
        raise MaterialError(
            f"{len(material.refusals.lines)} of {files} files could not be used; expected at most max_refused = "
            f"{source.max_refused:g} of them (the first: {material.refusals.lines[0]})"
        )
    rows = np.sort(places[:number])
    writer.close(rows)
    manifest = {
        "settings": cache_settings(source, network),
        "pairs": number,
        "groups": [groups[row] for row in rows.tolist()],
        "not_used": material.refusals.summary(),
    }
    (part / MANIFEST).write_text(json.dumps(manifest))
    shutil.rmtree(source.cache, ignore_errors=True)
    part.rename(source.cache)
    return manifest


class _Writer:
    """Writes the features of pairs into memory-mapped files, `PAIRS_PER_CALL` at a time."""

    def __init__(
        self,
        folder: Path,
        count: int,
        network: NetworkConfig,
        runner: FeatureRunner,
        teacher: TeacherFeatures | None,
    ) -> None:
        self._folder, self._pending = folder, list[tuple[int, CutPair]]()
        self._makers: dict[str, FeatureRunner | TeacherFeatures] = {TEMPLATE: runner, SEARCH: runner}
        sides = {TEMPLATE: network.template_grid, SEARCH: network.grid}
        if teacher is not None:
            self._makers |= dict.fromkeys(TAUGHT.values(), teacher)
            sides |= {TAUGHT[name]: side for name, side in sides.items()}
        self._arrays = {
            name: np.lib.format.open_memmap(
                folder / name, "w+", np.float16, (count, 2, maker.channels, sides[name], sides[name])
            )
            for name, maker in self._makers.items()
        }
        self._boxes = np.zeros((count, 4), dtype=np.float32)

    def add(self, row: int, pair: CutPair) -> None:
        self._pending.append((row, pair))
        if len(self._pending) == PAIRS_PER_CALL:
            self._flush()

    def close(self, filled: NDArray[np.int64]) -> None:
        """Write the pending pairs; remove all rows but the `filled` ones."""
        self._flush()
        np.save(self._folder / BOXES, self._boxes[filled])
        for name, array in self._arrays.items():
            if len(filled) < len(array):
                np.save(self._folder / f"filled_{name}", array[filled])
                (self._folder / f"filled_{name}").replace(self._folder / name)
            array.flush()

    def _flush(self) -> None:
        if not self._pending:
            return
        rows = [row for row, _ in self._pending]
        templates = np.concatenate([pair.template for _, pair in self._pending])
        searches = np.concatenate([pair.search for _, pair in self._pending])
        for name, maker in self._makers.items():
            features = maker(templates if name in (TEMPLATE, TAUGHT[TEMPLATE]) else searches)
            self._arrays[name][rows] = features.reshape(len(rows), 2, *features.shape[1:])
        self._boxes[rows] = [pair.box for _, pair in self._pending]
        self._pending = []


class FeatureRunner:
    """Crops [N, S, S, 3] uint8 to features [N, C, S / 16, S / 16] float32; OpenVINO where it is installed."""

    def __init__(self, stem: FrozenStem) -> None:
        self._stem = stem.eval()
        self._programs: dict[int, Any] = {}
        with torch.inference_mode():
            self.channels = int(stem(torch.zeros(1, 3, 64, 64)).shape[1])

    @torch.inference_mode()
    def __call__(self, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features of the crops."""
        scaled = (crops.astype(np.float32) / np.float32(255) - MEAN) / STD
        images = np.ascontiguousarray(scaled.transpose(0, 3, 1, 2), dtype=np.float32)
        side = images.shape[-1]
        if side not in self._programs:
            self._programs[side] = self._compile(images)
        features: NDArray[np.float32] = self._programs[side](images)
        return features

    def _compile(self, images: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        try:
            core = openvino_core()
        except EngineUnavailableError:
            return lambda batch: self._stem(torch.from_numpy(batch)).numpy()
        import openvino

        model = openvino.convert_model(
            self._stem, example_input=torch.from_numpy(images), input=[[-1, *images.shape[1:]]]
        )
        options = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "ENABLE_CPU_PINNING": False,  # docs/engines.md "Threads"
        }
        program = core.compile_model(model, "CPU", options)
        return lambda batch: np.asarray(program(batch)[0])
