"""Colours as a witness of whether a box is still on its target."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckd_core.data.footage import of_clip
from ckd_core.data.synthetic import clip
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.evidence import Evidence
from ckd_core.tracking.confidence.observe import LOOK_WEIGHT, observe
from ckd_core.tracking.confidence.search import observe_lost
from ckd_core.tracking.confidence.state import Confidence
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.view import FrameView
from ckd_core.tracking.witnesses.colours import (
    Colours,
    ColoursConfig,
    ColoursError,
    Portrait,
    Recognition,
    histogram,
    likeness,
    recognised,
    scene_of,
)
from ckd_core.tracking.witnesses.witnesses import Witnesses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from test.ckd_core.tracking.conftest import CorrelationEngine

CONFIG = ColoursConfig(enabled=True)
BOX = BoundingBox(20, 10, 20, 30)
RED, GREEN = (200, 60, 50), (60, 170, 60)
SETTLED = CONFIG.settled_after + 3


def painted(rgb: tuple[int, int, int], seed: int, side: int = 36) -> NDArray[np.uint8]:
    """A surface of one colour under a camera's noise."""
    noise = np.random.default_rng(seed).normal(0, 6, (side, side, 3))
    return np.clip(np.array(rgb) + noise, 0, 255).astype(np.uint8)


def watch(surfaces: list[tuple[int, int, int]], light: list[float] | None = None) -> list[Recognition]:
    """What colours say of a box in each frame, before a scene of many colours, under a light of that strength."""
    scene = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.float64)
    said: list[Recognition] = []
    portrait: Portrait | None = None
    for index, rgb in enumerate(surfaces):
        strength = 1.0 if light is None else light[index]
        picture = (scene * strength).astype(np.uint8)
        crop = (painted(rgb, index) * strength).astype(np.uint8)
        said.append(recognised(Colours(histogram(crop), scene_of(picture)), portrait, CONFIG))
        portrait = said[-1].portrait
    return said


def test_a_likeness_is_one_of_the_same_and_nought_of_nothing_in_common() -> None:
    red, green = histogram(painted(RED, 1)), histogram(painted(GREEN, 2))
    assert likeness(red, red) == pytest.approx(1.0, abs=1e-6)
    assert likeness(red, histogram(painted(RED, 3))) > 0.8
    assert likeness(red, green) < 0.05


def test_a_target_of_another_colour_is_not_the_target_and_its_return_is() -> None:
    said = watch([RED] * SETTLED + [GREEN] * 4 + [RED] * 3)
    assert [one.otherwise for one in said] == [False] * SETTLED + [True] * 4 + [False] * 3


def test_another_light_is_no_other_target() -> None:
    said = watch([RED] * (SETTLED + 20), [1.0] * SETTLED + [0.35] * 20)
    assert not any(one.otherwise for one in said)


def test_slow_changes_become_usual() -> None:
    steps = np.linspace(0, 1, 60)[:, None]
    surfaces = [tuple(np.round((1 - s) * np.array(RED) + s * np.array((230, 140, 60))).astype(int)) for s in steps]
    assert not any(one.otherwise for one in watch([RED] * SETTLED + surfaces))  # type: ignore[arg-type]


def test_few_readings_contradict_nobody() -> None:
    assert not any(one.otherwise for one in watch([RED, GREEN, RED, GREEN]))


@pytest.mark.parametrize(
    ("name", "value"), [("spreads", 0.0), ("least_spread", float("nan")), ("scene_fall", -1.0), ("settled_after", 0)]
)
def test_options_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ColoursError, match=f"{name} is {value}"):
        ColoursConfig(**{name: value})


def evidence(otherwise: bool, score: float = 0.9) -> Evidence:
    return Evidence(BOX, score, 0.1, recognition=Recognition(None, otherwise))


def test_a_box_of_other_colours_is_doubted_and_then_lost() -> None:
    config, state = ConfidenceConfig(), Confidence.begin(BOX)
    for _ in range(10):
        state = observe(state, evidence(False), Thresholds(), config)
    assert state.state is TrackState.TRACKING
    seen = []
    frames = round(config.lost_after / LOOK_WEIGHT)
    for _ in range(frames):
        state = observe(state, evidence(True), Thresholds(), config)
        seen.append(state.state)
    assert seen == [TrackState.UNCERTAIN] * (frames - 1) + [TrackState.LOST]
    for _ in range(config.repaint_after):
        state = observe_lost(state, evidence(True), Thresholds(), config)
        assert state.state is TrackState.LOST
    for _ in range(config.confirm_frames):
        state = observe_lost(state, evidence(True), Thresholds(), config)
    assert state.state is TrackState.TRACKING, "it may have been repainted"
    assert state.portrait is None, "what is usual begins anew"


def test_a_lost_target_is_found_at_once_where_its_colours_are_its_own() -> None:
    config, state = ConfidenceConfig(), replace(Confidence.begin(BOX), state=TrackState.LOST)
    for _ in range(config.confirm_frames):
        state = observe_lost(state, evidence(False), Thresholds(), config)
    assert state.state is TrackState.TRACKING


WATCHING = TrackerConfig(colours=CONFIG)


@pytest.mark.parametrize("config", [WATCHING, WATCHING.as_published(), TrackerConfig()])
def test_the_witness_sees_a_swap_in_a_frame_if_it_is_asked(
    config: TrackerConfig, correlation: CorrelationEngine
) -> None:
    view = FrameView(Modality.THERMAL, config)
    witnesses = Witnesses(view, correlation, Modality.THERMAL, config)
    random, portrait = np.random.default_rng(5), None
    said = []
    for index in range(SETTLED + 2):
        rgb = random.integers(90, 140, (60, 80, 3), dtype=np.uint8)
        rgb[10:40, 20:40] = RED if index < SETTLED else GREEN
        frame = MultiModalFrame(index / 30, rgb, np.zeros((60, 80), np.uint8), Modality.THERMAL)
        view.begin(frame, view.check(frame, None))
        witnesses.begin(frame)
        witnesses.look_into(BOX, None)
        said.append(witnesses.recognised(portrait))
        portrait = said[-1].portrait
    assert [one.otherwise for one in said[-3:]] == [False, *[config is WATCHING] * 2]
    blind = MultiModalFrame(9.0, None, np.zeros((60, 80), np.uint8), Modality.THERMAL)
    witnesses.begin(blind)
    witnesses.look_into(BOX, None)
    assert witnesses.recognised(portrait) == Recognition(portrait), "no colour camera, no witness"


def test_smoke_and_darkness_that_come_slowly_are_no_other_target(correlation: CorrelationEngine) -> None:
    for kind, trouble in (("person", "smoke"), ("person", "dark")):
        film = of_clip("film", clip(91, Modality.THERMAL, 60, (320, 240), target=kind, trouble=trouble))  # type: ignore[arg-type]
        view = FrameView(film.modality, WATCHING)
        witnesses, portrait, other = Witnesses(view, correlation, film.modality, WATCHING), None, 0
        shown = np.flatnonzero(film.present)
        for index in shown.tolist():
            frame = film.frame(index)
            view.begin(frame, view.check(frame, None))
            witnesses.begin(frame)
            witnesses.look_into(film.box(index), None)
            said = witnesses.recognised(portrait)
            portrait, other = said.portrait, other + said.otherwise
        assert other <= 0.1 * len(shown), f"{kind} in {trouble}: {other} of {len(shown)}"
