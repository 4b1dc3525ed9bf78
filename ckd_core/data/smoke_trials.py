"""Footage with smoke in front of the colour camera, which shows what a blinded camera may decide; deterministic.

Every sequence is shown under clouds that cover the whole picture and under plumes with edges that drift across it,
bright and dark. A sequence of colour alone gets a thermal camera, derived from its colours as in training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckd_core.data.footage import recording_footage
from ckd_core.data.pseudo import draw_sensor
from ckd_core.data.sequences import SequenceError
from ckd_core.data.synthetic.smoke import drifting_clouds, veil
from ckd_core.frame import Modality

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from ckd_core.data.footage import Footage
    from ckd_core.frame import MultiModalFrame

SEED_STEP = 100  # between the seeds of two sequences
CLEAR_SHARE, DENSE_SHARE = 1 / 6, 7 / 24  # of the sequence: when the smoke begins, and when it is as dense as it gets
NOISE = 2.0  # standard deviation of the colour camera's grey levels: smoke has grain, not flat colour


@dataclass(frozen=True, slots=True)
class Smoke:
    """One kind of smoke.

    Attributes:
        name: For the names of sequences.
        hidden: Share of the picture's light that it takes on average (0..1).
        contrast: How far that share varies between cloud and gap.
        tone: Its mean level, 0..255.
        shade: How far that level varies.
        speed: Steps of the drift from one frame to the next.
    """

    name: str
    hidden: float
    contrast: float
    tone: float
    shade: float
    speed: int

    def over(self, rgb: NDArray[np.uint8], seed: int, index: int, density: float) -> NDArray[np.uint8]:
        """Draw it over frame `index` [h, w, 3] uint8 at a density of 0 (none) to 1."""
        clouds = drifting_clouds(np.random.default_rng(seed), rgb.shape[:2], index * self.speed)
        veiled = veil(rgb, clouds, self.hidden * density, self.contrast * density, self.tone, self.shade)
        grain = np.random.default_rng((seed, index)).normal(0, NOISE, veiled.shape)
        return np.clip(veiled + grain, 0, 255).astype(np.uint8)


SMOKE = (
    Smoke("bright clouds", 0.92, 0.3, 190, 60, 2),
    Smoke("dark clouds", 0.95, 0.5, 60, 40, 4),
    Smoke("bright plumes", 0.5, 2.0, 200, 60, 3),
    Smoke("dark plumes", 0.6, 3.0, 120, 100, 6),
)


def smoke_trials(folders: list[Path]) -> Iterator[Footage]:
    """Each sequence under each kind of smoke.

    Raises:
        SequenceError: A folder is no sequence, or a frame of it has no colour image. Raised when that is read.
    """
    for number, folder in enumerate(folders):
        footage = recording_footage(folder)
        for kind, smoke in enumerate(SMOKE):
            yield smoky(footage, smoke, SEED_STEP * (number + 1) + kind)


def smoky(footage: Footage, smoke: Smoke, seed: int) -> Footage:
    """The footage with smoke that comes up early and stays; with a derived thermal camera where it has colour alone."""
    has_aux = footage.frame(0).aux is not None
    sensor = draw_sensor(Modality.THERMAL, np.random.default_rng(seed))
    modality = footage.modality if has_aux else Modality.THERMAL
    begin, end = CLEAR_SHARE * len(footage), DENSE_SHARE * len(footage)

    def frame(index: int) -> MultiModalFrame:
        seen = footage.frame(index)
        if seen.rgb is None:
            raise SequenceError(f"frame {index} of {footage.name} has no colour image; expected one to draw smoke over")
        aux = seen.aux if has_aux else sensor.image(seen.rgb)
        density = float(np.clip((index - begin) / (end - begin), 0, 1))
        return replace(seen, rgb=smoke.over(seen.rgb, seed, index, density), aux=aux, modality=modality)

    return replace(footage, name=f"{smoke.name} {footage.name}", modality=modality, frame=frame)
