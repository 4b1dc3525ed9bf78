"""The frozen stem's features of many cut pairs on disk, so that an epoch costs seconds of reading and no decoding.

A cache belongs to the settings that it was made with; those of others are refused. It holds float16 arrays that are
mapped, not read, and is written under another name until it is whole.
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
from ckd_core.data.real.crops import PairCutter
from ckd_core.data.real.material import GroupSettings, Material, MaterialError
from ckd_core.data.real.teacher import LabelSettings
from ckd_core.models.normalisation import MEAN, STD
from ckd_core.settings import limits, to_plain

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ckd_core.data.real.crops import CutPair
    from ckd_core.models.config import NetworkConfig
    from ckd_core.models.stem import FrozenStem

logger = logging.getLogger(__name__)
MANIFEST, TEMPLATE, SEARCH, BOXES = "manifest.json", "template.npy", "search.npy", "boxes.npy"
PART = 16  # pairs that go through the stem at a time
FREE_KEYS = ("root", "tracks", "cache", "drop", "ratio")  # where things are, and what only training does
CHOICE_STREAM, DROP_STREAM = 11, 12


@dataclass(frozen=True, slots=True)
class FeatureSource:
    """Real pairs, as stem features that `sdstrack cache` computed.

    root: the folder of all material. groups: what there is in it. tracks: the file of `sdstrack label`, label: how it
    makes that. cache: folder
    of the features. count: pairs in it. seed: of what is drawn for it. max_refused: share of all files of which no pair
    could be made above which the cache is not written. drop: share of pairs that lose a camera in training. ratio:
    weight in the mixture.
    """

    root: Path
    groups: tuple[GroupSettings, ...]
    tracks: Path
    cache: Path
    count: int = field(metadata=limits(64))
    seed: int = 0
    label: LabelSettings = field(default_factory=LabelSettings)
    max_refused: float = field(default=0.02, metadata=limits(0.0, 1.0))
    drop: float = field(default=0.25, metadata=limits(0.0, 1.0))
    ratio: float = field(default=1.0, metadata=limits(0.0))
    kind: Literal["features"] = "features"


class FeaturePairs:
    """Map-style pairs out of a cache; each epoch in another order, each pair a pure function of (seed, index).

    A sample's template is [2 * C, t, t] and its search region [2 * C, s, s] float16, colour first. With `drop`, a pair
    loses a camera: it shows the other one twice, or an unrelated pair's picture, in both places or in the search region
    only.
    """

    def __init__(self, source: FeatureSource, seed: int) -> None:
        manifest = read_manifest(source)
        self.source, self.seed, self.count = source, seed, int(manifest["pairs"])
        self._arrays = tuple(np.load(source.cache / name, mmap_mode="r") for name in (TEMPLATE, SEARCH))
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
        template, search = (np.array(array[row]) for array in self._arrays)  # [2, C, h, w] copies
        box = torch.from_numpy(self._boxes[row].copy())
        rng = np.random.default_rng((self.seed, DROP_STREAM, index))
        if rng.random() < self.source.drop:
            self._drop(template, search, rng)
        return TrainingSample(
            torch.from_numpy(template).flatten(0, 1),
            torch.from_numpy(search).flatten(0, 1),
            torch.tensor((0.25, 0.25, 0.5, 0.5)),  # a template's box, up to the start box's own error
            box,
            f"{self.source.cache.name} pair {row}",
        )

    def _drop(self, template: NDArray[np.float16], search: NDArray[np.float16], rng: np.random.Generator) -> None:
        lost, chance = int(rng.integers(2)), rng.random()
        if chance < 0.45:
            template[lost], search[lost] = template[1 - lost], search[1 - lost]
            return
        search[lost] = self._arrays[1][int(rng.integers(self.count)), lost]
        if chance > 0.8:
            template[lost] = self._arrays[0][int(rng.integers(self.count)), lost]


def read_manifest(source: FeatureSource) -> dict[str, Any]:
    """What a cache says about itself. Raises MaterialError: there is none, or it was made with other settings."""
    path = source.cache / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
        stored = {key: value for key, value in manifest["settings"].items() if key not in FREE_KEYS}
        wanted = cache_settings(source)
    except OSError as error:
        raise MaterialError(f"no features in {source.cache} ({error.strerror}); sdstrack cache makes them") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaterialError(f"{path} is not what sdstrack cache writes: {error}") from error
    if stored != wanted:
        changed = sorted(key for key in {*stored, *wanted} if stored.get(key) != wanted.get(key))
        raise MaterialError(f"{source.cache} was made with another {', '.join(changed)}; run sdstrack cache again")
    return manifest


def cached(source: FeatureSource) -> bool:
    """Whether there is a cache that fits."""
    try:
        read_manifest(source)
    except MaterialError:
        return False
    return True


def cache_settings(source: FeatureSource) -> dict[str, Any]:
    """The settings that decide what a cache holds."""
    plain = {key: value for key, value in to_plain(source).items() if key not in FREE_KEYS}
    return dict(json.loads(json.dumps(plain)))


def write_cache(
    source: FeatureSource,
    network: NetworkConfig,
    stem: FrozenStem,
    echo: Callable[[str], object] = lambda _: None,
) -> dict[str, Any]:
    """Cut `source.count` pairs, compute their features, write the cache; returns its manifest.

    Raises MaterialError: no material, or too much of it cannot be used; TeacherError for the tracks.
    """
    material = Material(source.root, source.groups, source.tracks)
    rng = np.random.default_rng(source.seed)
    cutter = PairCutter(network, material.others)
    part = source.cache.with_name(source.cache.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    writer = _Writer(part, source.count, FeatureRunner(stem), network)
    places, groups = rng.permutation(source.count), [""] * source.count
    made = 0
    for name, pair in material.pairs(source.count, rng):
        if made == source.count:
            break
        writer.add(int(places[made]), cutter.cut(pair, rng))
        groups[int(places[made])] = name.split("/")[0]
        made += 1
        if made % 1000 == 0:
            echo(f"{made} of {source.count} pairs; now {name}")
    files = sum(len(found) for found in material.files.values())
    for line in material.refused.summary():
        echo(f"not used: {line}")
    if len(material.refused.lines) > source.max_refused * files:
        raise MaterialError(
            f"{len(material.refused.lines)} of {files} files could not be used; expected at most max_refused = "
            f"{source.max_refused:g} of them (the first: {material.refused.lines[0]})"
        )
    kept = np.sort(places[:made])
    writer.close(kept)
    manifest = {
        "settings": cache_settings(source),
        "pairs": made,
        "groups": [groups[row] for row in kept.tolist()],
        "not_used": material.refused.summary(),
    }
    (part / MANIFEST).write_text(json.dumps(manifest))
    shutil.rmtree(source.cache, ignore_errors=True)
    part.rename(source.cache)
    return manifest


class _Writer:
    """Pairs to features, some at a time, straight into the mapped files."""

    def __init__(self, folder: Path, count: int, runner: FeatureRunner, network: NetworkConfig) -> None:
        self._folder, self._runner = folder, runner
        self._waiting: list[tuple[int, CutPair]] = []
        shapes = {TEMPLATE: network.template_grid, SEARCH: network.grid}
        self._arrays = {
            name: np.lib.format.open_memmap(folder / name, "w+", np.float16, (count, 2, runner.channels, side, side))
            for name, side in shapes.items()
        }
        self._boxes = np.zeros((count, 4), dtype=np.float32)

    def add(self, row: int, pair: CutPair) -> None:
        self._waiting.append((row, pair))
        if len(self._waiting) == PART:
            self._flush()

    def close(self, kept: NDArray[np.int64]) -> None:
        """Write what waits; rows that were never filled go, in place."""
        self._flush()
        np.save(self._folder / BOXES, self._boxes[kept])
        for name, array in self._arrays.items():
            if len(kept) < len(array):
                np.save(self._folder / f"kept_{name}", array[kept])
                (self._folder / f"kept_{name}").replace(self._folder / name)
            array.flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = [row for row, _ in self._waiting]
        for name, crops in (
            (TEMPLATE, [pair.template for _, pair in self._waiting]),
            (SEARCH, [pair.search for _, pair in self._waiting]),
        ):
            features = self._runner(np.concatenate(crops))
            self._arrays[name][rows] = features.reshape(len(rows), 2, *features.shape[1:])
        self._boxes[rows] = [pair.box for _, pair in self._waiting]
        self._waiting = []


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
        found: NDArray[np.float32] = self._programs[side](images)
        return found

    def _compile(self, images: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        try:
            import openvino
        except ImportError:
            return lambda given: self._stem(torch.from_numpy(given)).numpy()
        model = openvino.convert_model(
            self._stem, example_input=torch.from_numpy(images), input=[[-1, *images.shape[1:]]]
        )
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
        program = openvino.compile_model(model, "CPU", options)
        return lambda given: np.asarray(program(given)[0])
