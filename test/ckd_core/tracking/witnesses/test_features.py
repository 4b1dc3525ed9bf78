"""A network's features as a witness of whether a box is still on its target."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ckd_core import DEFAULT_MODEL
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.evidence import Evidence, is_credible, is_suspicious
from ckd_core.tracking.confidence.observe import LOOK_WEIGHT, observe
from ckd_core.tracking.confidence.search import observe_lost
from ckd_core.tracking.confidence.state import Confidence, growth_of
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines.build import build_engine
from ckd_core.tracking.multi import MultiTracker
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.view import FrameView
from ckd_core.tracking.witnesses.colours import ColoursConfig
from ckd_core.tracking.witnesses.features import (
    FeaturesConfig,
    FeaturesError,
    Gallery,
    Reading,
    Resemblance,
    cells_of,
    detail_of,
    is_blind,
    is_due,
    likeness,
    resembling,
)
from ckd_core.tracking.witnesses.witnesses import Witnesses

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONFIG = FeaturesConfig(enabled=True)
BOX = BoundingBox(40, 30, 24, 36)
BOTH = (True, True)
LIMITS = Thresholds(regain=0.75)


def cells(seed: int, noise: float = 0.0, of: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Features of one thing, or of another by another seed; `noise` says how far from those `of` a thing."""
    random = np.random.default_rng(seed)
    fresh = random.normal(size=(2, 16, 32)).astype(np.float32)
    return fresh if of is None else of + np.float32(noise) * fresh


TARGET = cells(0)


def read(look: NDArray[np.float32], detail: float = 10.0) -> Reading:
    return Reading(look, detail)


def watch(
    looks: list[NDArray[np.float32]],
    asked: bool = True,
    presence: tuple[bool, bool] = BOTH,
    blind: bool = False,
) -> list[Resemblance]:
    """What features say of a box that shows `looks` after the start; what they deny does not become usual.

    Colour is `blind` in the last one.
    """
    gallery, said = resembling(read(TARGET), None, BOTH, False, CONFIG).gallery, []
    for index, look in enumerate(looks, 1):
        said.append(resembling(read(look), gallery, presence, asked, CONFIG, blind and index == len(looks)))
        if not said[-1].doubtful:
            gallery = said[-1].gallery
    return said


def same(count: int, start: int = 1) -> list[NDArray[np.float32]]:
    return [cells(seed, 0.3, TARGET) for seed in range(start, start + count)]


def test_the_cells_of_a_box_are_the_middle_of_its_template() -> None:
    tokens = np.arange(2 * 64, dtype=np.float32).reshape(2, 64, 1)
    inner = cells_of(tokens, 2.0)
    assert inner.shape == (2, 16, 1)
    assert inner[0, :4, 0].tolist() == [18, 19, 20, 21]
    assert inner[1, -1, 0] == 64 + 45


def test_a_likeness_is_two_of_the_same_and_near_nought_of_another() -> None:
    np.testing.assert_allclose(likeness(TARGET, TARGET), 2.0, rtol=1e-5)
    assert (likeness(TARGET, cells(1)) < 0.6).all()
    assert np.isfinite(likeness(np.zeros_like(TARGET), TARGET)).all()


def test_another_thing_is_doubted_and_denied_and_the_target_is_not() -> None:
    said = watch([*same(15), cells(99), *same(2, 40)])
    assert [one.doubtful for one in said] == [False] * 15 + [True] + [False] * 2
    assert said[15].denied
    assert not said[16].denied


def test_who_is_not_asked_says_nothing() -> None:
    assert not any(one.doubtful or one.denied for one in watch([*same(15), cells(99)], asked=False))


def test_few_readings_contradict_nobody() -> None:
    assert not any(one.doubtful for one in watch([cells(seed) for seed in (50, 51)]))


def test_one_camera_that_shows_something_else_is_enough_for_doubt() -> None:
    mixed = TARGET.copy()
    mixed[1] = cells(99)[1]
    assert watch([*same(12), mixed])[-1].doubtful
    assert not watch([*same(12), mixed], presence=(True, False))[-1].doubtful, "that camera is gone"


def test_a_camera_that_goes_blind_does_not_keep_a_target_from_being_tracked_again() -> None:
    state = observe(followed(), evidence(doubtful=True), LIMITS, ConfidenceConfig())
    for _ in range(ConfidenceConfig().recover_after):
        state = observe(state, evidence(doubtful=True), LIMITS, ConfidenceConfig())
    assert state.state is TrackState.TRACKING


def test_a_look_that_changes_slowly_stays_the_target_and_a_jump_there_does_not() -> None:
    other = cells(99)
    steps = [(1 - share) * TARGET + share * other for share in np.linspace(0, 1, 120, dtype=np.float32)]
    said = watch([*same(12), *steps])
    assert not any(one.doubtful for one in said)
    assert said[-1].gallery is not None
    assert said[-1].gallery.kept is not None
    assert watch([*same(12), other])[-1].doubtful


def test_a_reading_is_due_at_first_and_every_tenth_frame() -> None:
    gallery = resembling(read(TARGET), None, BOTH, False, CONFIG).gallery
    assert is_due(None, CONFIG)
    due = []
    for _ in range(40):
        due.append(is_due(gallery, CONFIG))
        gallery = resembling(read(TARGET) if due[-1] else None, gallery, BOTH, False, CONFIG).gallery
    assert due == [True] * 10 + [False] * 9 + [True] + [False] * 9 + [True] + [False] * 9 + [True]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("doubt", 0.0),
        ("deny", 1.5),
        ("renew", float("nan")),
        ("blind", 0.0),
        ("deny_alone", 2.0),
        ("readings", 0),
        ("renew_every", 0),
        ("settled_after", 11),
    ],
)
def test_options_outside_their_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(FeaturesError, match=f"{name} is {value}"):
        FeaturesConfig(**{name: value})


def evidence(score: float = 0.9, veiled: bool = False, **said: bool) -> Evidence:
    return Evidence(BOX, score, 0.1, resemblance=Resemblance(None, **said), veiled=veiled)


def followed() -> Confidence:
    state = Confidence.begin(BOX)
    for _ in range(10):
        state = observe(state, evidence(), LIMITS, ConfidenceConfig())
    return state


def test_a_box_of_other_features_is_doubted_and_then_lost_and_not_found_again() -> None:
    config, state = ConfidenceConfig(), followed()
    assert observe(state, evidence(denied=True), LIMITS, config).state is TrackState.TRACKING, (
        "asked of new claims alone"
    )
    state = observe(state, evidence(doubtful=True), LIMITS, config)
    assert state.state is TrackState.UNCERTAIN
    assert growth_of(state, config) == 1.0, "its place is not in doubt"
    for _ in range(round(config.lost_after / LOOK_WEIGHT) - 1):
        assert state.state is TrackState.UNCERTAIN
        state = observe(state, evidence(denied=True), LIMITS, config)
    assert state.state is TrackState.LOST
    for _ in range(4 * config.confirm_frames):
        state = observe_lost(state, evidence(denied=True), LIMITS, config)
        assert state.state is TrackState.LOST
    for _ in range(config.confirm_frames):
        state = observe_lost(state, evidence(), LIMITS, config)
    assert state.state is TrackState.TRACKING


def test_beside_thermal_a_strange_look_changes_the_state_alone() -> None:
    config, state, plain = ConfidenceConfig(), followed(), followed()
    for step in range(1, 60):
        moved = BOX._replace(x=BOX.x + step)
        state = observe(state, replace(evidence(veiled=True, doubtful=True, denied=True), box=moved), LIMITS, config)
        plain = observe(plain, replace(evidence(), box=moved), LIMITS, config)
        assert state.state is TrackState.UNCERTAIN
        for name in ("trusted_box", "history", "sizes", "shapes", "velocity", "gallery"):
            assert getattr(state, name) == getattr(plain, name), name
        assert growth_of(state, config) == 1.0
    for _ in range(config.recover_after):
        state = observe(state, replace(evidence(veiled=True), box=moved), LIMITS, config)
    assert state.state is TrackState.TRACKING, "and it is itself again"


def test_beside_thermal_a_low_score_still_loses_a_target() -> None:
    config, state = ConfidenceConfig(), followed()
    for _ in range(config.lost_after):
        state = observe(state, evidence(0.05, veiled=True), LIMITS, config)
    assert state.state is TrackState.LOST


def test_where_colour_is_blind_thermal_judges_alone() -> None:
    hidden, gone = same(1, 70)[0], cells(98)
    hidden[0] = cells(99)[0]
    assert watch([*same(12), hidden])[-1].doubtful, "colour sees something else"
    assert not watch([*same(12), hidden], blind=True)[-1].doubtful, "colour sees nothing"
    said = watch([*same(12), gone], blind=True)[-1]
    assert said.doubtful
    assert said.denied


def test_colour_is_blind_where_its_box_has_lost_its_detail() -> None:
    gallery = resembling(read(TARGET, 12.0), None, BOTH, False, CONFIG).gallery
    assert not is_blind(1.0, gallery, CONFIG), "nothing is usual yet"
    for look in same(CONFIG.settled_after):
        gallery = resembling(read(look, 12.0), gallery, BOTH, False, CONFIG).gallery
    assert is_blind(5.0, gallery, CONFIG)
    assert not is_blind(7.0, gallery, CONFIG)
    plain = resembling(read(TARGET, 1.0), None, BOTH, False, CONFIG).gallery
    for look in same(CONFIG.settled_after):
        plain = resembling(read(look, 1.0), plain, BOTH, False, CONFIG).gallery
    assert not is_blind(0.1, plain, CONFIG), "a plain target always looks so"


def test_smoke_takes_detail_and_noise_gives_it() -> None:
    stripes = np.zeros((36, 36, 3), dtype=np.uint8)
    stripes[::4] = 200
    veiled = np.clip(0.1 * stripes + 170, 0, 255).astype(np.uint8)
    assert detail_of(stripes) == pytest.approx(200 * 17 / 35, rel=0.05)
    assert detail_of(veiled) < 0.2 * detail_of(stripes)
    assert detail_of(np.full((36, 36, 3), 90, dtype=np.uint8)) == 0.0


def test_they_are_asked_of_low_scores_and_of_new_claims_alone() -> None:
    config, state = ConfidenceConfig(), followed()
    assert not is_suspicious(state, evidence(0.9), LIMITS, config), "as usual"
    assert is_suspicious(state, evidence(0.6), LIMITS, config), "two thirds of the usual score"
    assert not is_credible(state, evidence(0.1), LIMITS), "doubted without them"
    unsure = replace(state, state=TrackState.UNCERTAIN)
    assert is_credible(unsure, evidence(0.9), LIMITS)
    assert is_suspicious(unsure, evidence(0.9), LIMITS, config)
    lost = replace(state, state=TrackState.LOST)
    assert not is_credible(lost, evidence(0.9), LIMITS), "the first sight is coarse"
    seen = replace(lost, candidate=BOX)
    assert is_credible(seen, evidence(0.9), LIMITS)
    assert is_suspicious(seen, evidence(0.9), LIMITS, config)
    assert not is_suspicious(seen, evidence(0.1), LIMITS, config)
    altered = replace(seen, scan=config.alter_after)
    assert not is_suspicious(altered, evidence(0.9), LIMITS, config), "it may look different"


def picture(index: int, swapped: bool) -> MultiModalFrame:
    """A striped thing at `BOX` before noise, or a plain round one."""
    noise = np.random.default_rng(100 + index)
    rgb = noise.integers(90, 140, (120, 160, 3), dtype=np.uint8)
    aux = noise.integers(60, 90, (120, 160), dtype=np.uint8)
    x, y, w, h = map(int, BOX)
    if swapped:
        cv2.ellipse(rgb, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, (230, 220, 200), -1)
        cv2.ellipse(aux, (x + w // 2, y + h // 2), (w // 2, h // 2), 0, 0, 360, 30, -1)
    else:
        for row in range(0, h, 12):
            rgb[y + row : y + row + 6, x : x + w] = (200, 20, 20)
            rgb[y + row + 6 : y + row + 12, x : x + w] = (20, 20, 120)
            aux[y + row : y + row + 6, x : x + w] = 240
    return MultiModalFrame(index / 30, rgb, aux, Modality.THERMAL)


@pytest.mark.parametrize("model", [DEFAULT_MODEL, "sdstrack_s128", "ckd_s128"])
def test_the_features_of_a_network_tell_two_things_apart(model: str) -> None:
    built = build_engine(model, None, engine="torch/fp32", threads=1)
    config = TrackerConfig(features=CONFIG)
    view = FrameView(Modality.THERMAL, config)
    witnesses = Witnesses(view, built.engine, Modality.THERMAL, config)
    gallery: Gallery | None = None
    said = []
    for index in range(16):
        frame = picture(index, swapped=index >= 14)
        view.begin(frame, view.check(frame, None))
        witnesses.begin(frame)
        witnesses.look_into(BOX, gallery)
        said.append(witnesses.resembled(BOX, gallery, asked=True))
        gallery = said[-1].gallery
    assert not any(one.doubtful for one in said[:14])
    assert said[-1].doubtful


@pytest.mark.parametrize("watched", [True, False])
def test_a_tracker_reads_them_if_it_is_asked_to_and_its_boxes_stay_the_same(watched: bool) -> None:
    built = build_engine(DEFAULT_MODEL, None, engine="torch/fp32", threads=1)
    config = TrackerConfig(features=replace(CONFIG, enabled=watched))
    tracker = MultiTracker(built.engine, Modality.THERMAL, config, built.thresholds)
    plain = MultiTracker(built.engine, Modality.THERMAL, config.as_published(), built.thresholds)
    for one in (tracker, plain):
        one.start(picture(0, False), {1: BOX})
        for index in range(1, 12):
            result = one.update(picture(index, False))[1]
    gallery = tracker._targets[1].confidence.gallery
    assert (gallery is not None) == watched
    assert plain._targets[1].confidence.gallery is None, "published behaviour asks nobody"
    assert result.state is TrackState.TRACKING
    if gallery is not None:
        assert gallery.frames == 11
        assert len(gallery.usual) == 10


@pytest.mark.parametrize(("model", "watched"), [(DEFAULT_MODEL, True), ("sdstrack_s128", False), ("ckd_s128", False)])
def test_looks_are_watched_and_learnt_by_the_network_they_were_measured_with(model: str, watched: bool) -> None:
    built = build_engine(model, None, engine="torch/fp32", threads=1)
    tracker = MultiTracker(built.engine, Modality.THERMAL, TrackerConfig(), built.thresholds)
    tracker.start(picture(0, False), {1: BOX})
    confidence = tracker._targets[1].confidence
    assert (confidence.gallery is not None, confidence.portrait is not None) == (watched, watched)
    for index in range(1, 11):
        tracker.update(picture(index, False))
    assert (tracker._targets[1].learnt is not None) == watched


def test_thermal_goes_on_with_a_target_that_smoke_hides_from_colour() -> None:
    built = build_engine(DEFAULT_MODEL, None, engine="torch/fp32", threads=1)
    tracker = MultiTracker(built.engine, Modality.THERMAL, TrackerConfig(), built.thresholds)
    blind = MultiTracker(
        built.engine,
        Modality.THERMAL,
        TrackerConfig(colours=ColoursConfig(enabled=False), features=replace(CONFIG, enabled=False)),
        built.thresholds,
    )
    for one in (tracker, blind):
        one.start(picture(0, False), {1: BOX})
    for index in range(1, 30):
        frame = picture(index, False)
        if index > 12 and frame.rgb is not None:
            grey = np.random.default_rng(index).normal(180, 3, frame.rgb.shape)
            frame = replace(frame, rgb=np.clip(0.05 * frame.rgb + 0.95 * grey, 0, 255).astype(np.uint8))
        watched, plain = tracker.update(frame)[1], blind.update(frame)[1]
        assert watched.state is not TrackState.LOST
        assert watched.box == plain.box
