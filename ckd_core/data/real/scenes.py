"""Synthetic pairs for what real clips lack: lookalikes, smoke, and a target that is away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.footage import SCENES
from ckd_core.data.real.crops import NO_TROUBLE, CutPair, RealPair
from ckd_core.data.synthetic import World, clip
from ckd_core.data.synthetic.pairs import PairSettings, SyntheticPairs
from ckd_core.frame import Modality
from ckd_core.modality import to_network_image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from ckd_core.data.real.crops import TroubleSettings
    from ckd_core.models.config import NetworkConfig

FRAMES = 60
ABSENT = (0.35, 0.8)  # part of every second recording without the target
CLIPS_PER_WORLD = 6
ABSENT_SHARE = 0.12  # of the rendered pairs


def scene_pairs(clips: int, per_clip: int, rng: np.random.Generator) -> Iterator[tuple[str, RealPair]]:
    """Pairs of each of `clips` recordings in turn, with the recording's name.

    While the target is away, the pair's later box is nan and its search region lies where the target was last.
    """
    seeds = rng.integers(0, 2**31, clips)
    world = World()
    kinds = tuple(Modality)
    for number, seed in enumerate(seeds.tolist()):
        if number % CLIPS_PER_WORLD == 0:
            world = World(seed)
        modality = kinds[number % len(kinds)]
        target, trouble = SCENES[number // len(kinds) % len(SCENES)]
        absent = ABSENT if number % 2 else None
        recording = clip(seed, modality, FRAMES, (480, 360), target=target, trouble=trouble, absent=absent, world=world)
        aux = [to_network_image(frame.aux, modality) for frame in recording.frames if frame.aux is not None]
        seen: NDArray[np.bool_] = np.asarray(np.isfinite(recording.boxes).all(axis=1))
        firsts = np.flatnonzero(seen)
        for _ in range(per_clip if len(firsts) else 0):
            first = int(firsts[int(rng.integers(max(1, len(firsts) // 2)))])
            second = int(rng.integers(first, len(seen)))
            rgb = recording.frames[first].rgb, recording.frames[second].rgb
            assert rgb[0] is not None and rgb[1] is not None  # noqa: S101 - a clip has both cameras
            last = recording.boxes[: second + 1][seen[: second + 1]][-1]
            height, width = rgb[0].shape[:2]
            middles = recording.others[second][:, :2] + recording.others[second][:, 2:] / 2
            inside = np.asarray(((middles > 0) & (middles < (width, height))).all(axis=1))
            yield (
                f"{modality.value} {target} {trouble}",
                RealPair(
                    (rgb[0], rgb[1]),
                    (aux[first], aux[second]),
                    (recording.boxes[first], last),
                    tuple(recording.others[second][inside]),
                    away=not seen[second],
                ),
            )


def rendered_pairs(
    count: int, rng: np.random.Generator, network: NetworkConfig, troubles: TroubleSettings = NO_TROUBLE
) -> Iterator[CutPair]:
    """Pairs of `SyntheticPairs`, cut as `network` takes them; each is another scene.

    Of the troubles, `misaligned` and `stretched` happen in them.
    """
    settings = PairSettings(
        template_size=network.template_size,
        search_size=network.search_size,
        template_factor=network.template_factor,
        search_factor=network.search_factor,
        square_boxes=network.square_boxes,
        absent_share=ABSENT_SHARE,
        misaligned=troubles.misaligned,
        stretched=troubles.stretched,
    )
    first, second = (int(seed) for seed in rng.integers(0, 2**31, 2))
    pairs = SyntheticPairs(World(first, "packages"), settings, second)
    for index in range(count):
        pair = pairs.render(index)
        yield CutPair(np.stack(pair.template), np.stack(pair.search), pair.search_box.astype(np.float32))
