"""How fast synthetic scenes are generated, against the published crop work of a real pair, on one core."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from benchmarks.harness import interleaved, rows_against
from ckd_core.data.synthetic import PairSettings, SyntheticPairs, World, clip
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.harness import Row

TITLE = "Synthetic data: pairs and clips per second and core"
PAIRS_AT_ONCE = 20
CLIP_FRAMES = 10


def _decode_two_pairs_of_files() -> Callable[[], object]:
    """What a pair from disk costs at least: four 640 x 480 JPEG images decoded, cut and resized."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (60, 80, 3), dtype=np.uint8)
    picture = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    _, packed = cv2.imencode(".jpg", picture)

    def call() -> None:
        for _ in range(PAIRS_AT_ONCE):
            for side in (64, 64, 128, 128):
                image = cv2.imdecode(packed, cv2.IMREAD_COLOR)
                assert image is not None
                cv2.resize(image[100:356, 200:456], (side, side))

    return call


def run(quick: bool) -> list[Row]:
    """One row per variant, with pairs or frames per second."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        return _run(quick)
    finally:
        cv2.setNumThreads(threads)


def _run(quick: bool) -> list[Row]:
    world = World(0)
    counts = {"pair from JPEG files": PAIRS_AT_ONCE}
    variants: dict[str, Callable[[], object]] = {"pair from JPEG files": _decode_two_pairs_of_files()}
    for modality in Modality:
        pairs = SyntheticPairs(world, PairSettings(modalities=(modality,)))
        pairs[0]
        name = f"synthetic pair, {modality.value}"
        variants[name] = lambda pairs=pairs: [pairs[i] for i in range(PAIRS_AT_ONCE)]  # type: ignore[misc]  # bound now
        counts[name] = PAIRS_AT_ONCE
    for modality in Modality:
        name = f"clip frame 320 x 240, {modality.value}"
        variants[name] = lambda modality=modality: clip(1, modality, CLIP_FRAMES, world=world)  # type: ignore[misc]  # bound now
        counts[name] = CLIP_FRAMES
    timings = interleaved(variants, rounds=3 if quick else 9, warmup=1)
    rows = rows_against(timings, "pair from JPEG files")
    for row in rows:
        name = str(row["name"])
        count, seconds = counts[name], timings[name].median_ms / 1e3
        row["per_second"] = round(count / seconds, 1)
        row["ratio"] = round(float(str(row["ratio"])) * count / PAIRS_AT_ONCE, 3)  # a frame against a pair
    return rows
