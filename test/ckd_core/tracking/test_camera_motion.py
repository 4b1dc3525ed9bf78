from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.camera_motion import CameraMotion, ImageMotion, RotationMotion, moved_box
from ckd_core.tracking.confidence.config import ConfidenceConfig
from ckd_core.tracking.confidence.state import Bystander, Confidence
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.confidence.trail import Sight
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.engines import Prediction
from ckd_core.tracking.looks import TargetState
from ckd_core.tracking.multi import MultiTracker, TrackerError
from ckd_core.tracking.result import TrackState
from ckd_core.tracking.steps import carried
from ckd_core.tracking.tracker import Tracker

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEIGHT, WIDTH = FRAME_SIZE = (240, 320)
FOCAL = WIDTH / (2 * math.tan(math.pi / 6))
CAMERA = np.array(((FOCAL, 0, WIDTH / 2 - 0.5), (0, FOCAL, HEIGHT / 2 - 0.5), (0, 0, 1)))
RATE_HZ = 15.0
SIDE = 14


def texture(name: str, height: int, width: int) -> NDArray[np.uint8]:
    """Blotches of a few pixels that no other name has."""
    noise = np.random.default_rng(zlib.crc32(name.encode())).integers(0, 256, (height // 5 + 2, width // 5 + 2, 3))
    big = cv2.resize(noise.astype(np.uint8), None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(big[:height, :width])


def turn(radians: float) -> NDArray[np.float64]:
    """Rotation from the axes of a camera to those of one that has turned to the right."""
    c, s = math.cos(radians), math.sin(radians)
    return np.array(((c, 0, -s), (0, 1, 0), (s, 0, c)))


@dataclass(frozen=True)
class Panorama:
    """A camera that turns to and fro at up to 60 degrees a second, and a small target that stands still.

    All of it is far away, on a picture that a camera of the same focal length sees straight ahead.
    """

    reach: float = math.radians(15)
    picture: NDArray[np.uint8] = None  # type: ignore[assignment]

    @classmethod
    def make(cls) -> Panorama:
        picture = texture("panorama", HEIGHT, 3 * WIDTH) // 2
        x, y = 3 * WIDTH // 2, HEIGHT // 2
        picture[y : y + SIDE, x : x + SIDE] = texture("target", SIDE, SIDE)
        return cls(picture=picture)

    def angle(self, stamp: float) -> float:
        return self.reach * math.sin(math.radians(60) / self.reach * stamp)

    def homography(self, stamp: float) -> NDArray[np.float64]:
        wide = CAMERA.copy()
        wide[0, 2] += WIDTH
        return CAMERA @ turn(self.angle(stamp)) @ np.linalg.inv(wide)

    def frame(self, stamp: float, rgb: bool = True) -> MultiModalFrame:
        seen = cv2.warpPerspective(self.picture, self.homography(stamp), (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
        return MultiModalFrame(stamp, seen if rgb else None, seen[..., 0].copy(), Modality.THERMAL)

    def box(self, stamp: float) -> BoundingBox:
        x, y = 3 * WIDTH / 2, HEIGHT / 2
        corners = np.array([[(x - 0.5, y - 0.5), (x + SIDE - 0.5, y + SIDE - 0.5)]])
        (left, top), (right, bottom) = cv2.perspectiveTransform(corners, self.homography(stamp))[0] + 0.5
        return BoundingBox(left, top, right - left, bottom - top)

    def rotation(self, before: float, after: float) -> NDArray[np.float64]:
        return turn(self.angle(after) - self.angle(before))


def center_error(a: BoundingBox, b: BoundingBox) -> float:
    return math.dist(a.center, b.center)


@pytest.fixture(scope="module")
def panorama() -> Panorama:
    return Panorama.make()


def ways(panorama: Panorama) -> dict[str, CameraMotion | None]:
    return {"off": None, "image": ImageMotion(), "tf": RotationMotion(panorama.rotation, lambda: CAMERA)}


@pytest.mark.parametrize("way", ["off", "image", "tf"])
def test_a_camera_that_turns_at_60_degrees_a_second_keeps_the_target_only_if_its_motion_is_foreseen(
    panorama: Panorama, correlation, way: str
) -> None:
    limits = Thresholds(doubt=0.6, unseen=0.5, confirm=0.6, rival=0.85)
    config = TrackerConfig(confidence=ConfidenceConfig(lost_after=4, reacquire=False))
    tracker = Tracker(correlation, Modality.THERMAL, config, limits)
    tracker.camera_motion = ways(panorama)[way]
    tracker.start(panorama.frame(0.0), panorama.box(0.0))
    assert abs(panorama.box(1 / RATE_HZ).center[0] - panorama.box(0.0).center[0]) > 1.2 * SIDE
    states, errors = [], []
    for index in range(1, 31):
        result = tracker.update(panorama.frame(index / RATE_HZ))
        states.append(result.state)
        errors.append(center_error(result.box, panorama.box(index / RATE_HZ)))
    if way == "off":
        assert TrackState.LOST in states
        assert np.median(errors) > SIDE
    else:
        assert set(states) == {TrackState.TRACKING}
        assert max(errors) < 0.4 * SIDE


@pytest.mark.parametrize("way", ["image", "tf"])
def test_the_motion_carries_places_to_where_they_are_seen(panorama: Panorama, way: str) -> None:
    motion = ways(panorama)[way]
    assert motion is not None
    views = [motion.view(panorama.frame(stamp), FRAME_SIZE) for stamp in (0.0, 1 / RATE_HZ)]
    matrix = motion.between(*views, [panorama.box(0.0)])
    assert matrix is not None
    carried = moved_box(panorama.box(0.0), matrix, FRAME_SIZE)
    assert center_error(carried, panorama.box(1 / RATE_HZ)) < 1.0


def test_targets_that_fill_the_picture_do_not_count_as_the_cameras_motion() -> None:
    ground, figure = texture("still", HEIGHT, WIDTH), texture("walker", 200, 200)
    frames = []
    for step in range(2):
        rgb = ground.copy()
        rgb[20:220, 40 + 8 * step : 240 + 8 * step] = figure
        frames.append(MultiModalFrame(step / RATE_HZ, rgb, rgb[..., 0], Modality.THERMAL))
    motion = ImageMotion()
    matrix = motion.between(*(motion.view(frame, FRAME_SIZE) for frame in frames), [BoundingBox(40, 20, 200, 200)])
    assert matrix is not None
    np.testing.assert_allclose(matrix, np.eye(3), atol=0.3)  # the walker has moved by 8 px


@pytest.mark.parametrize("rgb", [np.zeros((HEIGHT, WIDTH, 3), np.uint8), texture("other", HEIGHT, WIDTH), None])
def test_nothing_is_foreseen_where_the_picture_does_not_show_the_motion(panorama: Panorama, rgb) -> None:
    motion = ImageMotion()
    after = MultiModalFrame(0.1, rgb, np.zeros((HEIGHT, WIDTH), np.uint8), Modality.THERMAL)
    before = motion.view(panorama.frame(0.0), FRAME_SIZE)
    assert motion.between(before, motion.view(after, FRAME_SIZE), []) is None


def thermal(seen: NDArray[np.uint8]) -> MultiModalFrame:
    return MultiModalFrame(0.0, None, seen[..., 0].copy(), Modality.THERMAL)


def counts(seen: NDArray[np.uint8]) -> MultiModalFrame:
    return MultiModalFrame(0.0, None, seen[..., 0].astype(np.uint16) * 9 + 3000, Modality.THERMAL)


def millimetres(seen: NDArray[np.uint8]) -> MultiModalFrame:
    return MultiModalFrame(0.0, None, seen[..., 0].astype(np.uint16) * 20 + 600, Modality.DEPTH)


def metres(seen: NDArray[np.uint8]) -> MultiModalFrame:
    return MultiModalFrame(0.0, None, seen[..., 0].astype(np.float32) / 50 + 0.6, Modality.DEPTH)


def half_the_size(seen: NDArray[np.uint8]) -> MultiModalFrame:
    return thermal(cv2.resize(seen, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))


def another_view(seen: NDArray[np.uint8]) -> MultiModalFrame:
    to_aux = np.array(((1.1, 0.05, -20.0), (-0.05, 1.1, 5.0), (0.0, 0.0, 1.0)))
    image = cv2.warpPerspective(seen[..., 0], to_aux, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)
    return MultiModalFrame(0.0, None, image, Modality.THERMAL, aux_from_reference=to_aux)


@pytest.mark.parametrize("camera", [thermal, counts, millimetres, metres, half_the_size, another_view])
def test_without_colour_the_motion_is_that_of_the_other_camera(panorama: Panorama, camera) -> None:
    motion = ImageMotion()
    seen = [panorama.frame(stamp).rgb for stamp in (0.0, 1 / RATE_HZ)]
    matrix = motion.between(*(motion.view(camera(rgb), FRAME_SIZE) for rgb in seen), [panorama.box(0.0)])
    assert matrix is not None
    carried = moved_box(panorama.box(0.0), matrix, FRAME_SIZE)
    assert center_error(carried, panorama.box(1 / RATE_HZ)) < 1.5


def test_two_cameras_pictures_are_not_compared(panorama: Panorama) -> None:
    motion, frame = ImageMotion(), panorama.frame(0.0)
    dark = MultiModalFrame(frame.stamp, None, frame.aux, Modality.THERMAL)
    views = motion.view(frame, FRAME_SIZE), motion.view(dark, FRAME_SIZE)
    assert motion.between(views[0], views[0], []) is not None
    assert motion.between(*views, []) is None


def test_nothing_is_foreseen_without_a_rotation_or_a_calibration() -> None:
    assert RotationMotion(lambda *_: None, lambda: CAMERA).between(0.0, 1.0, []) is None
    assert RotationMotion(lambda *_: np.eye(3), lambda: None).between(0.0, 1.0, []) is None
    assert RotationMotion(lambda *_: np.eye(3), lambda: CAMERA).between(object(), 1.0, []) is None


def test_boxes_of_a_frame_whose_motion_is_unknown_are_not_carried_by_the_motion_since_an_older_one(
    panorama: Panorama, correlation
) -> None:
    asked, found = [], []

    class Recording(ImageMotion):
        def between(self, before, after, targets):
            asked.append((before, after))
            found.append(super().between(before, after, targets))
            return found[-1]

    tracker = MultiTracker(correlation, Modality.THERMAL)
    tracker.camera_motion = Recording()
    tracker.start(panorama.frame(0.0), {1: panorama.box(0.0), 2: panorama.box(0.0)})
    tracker.update(panorama.frame(0.1))
    assert len(asked) == 1, "once for all targets of a frame"
    tracker.update(panorama.frame(0.2, rgb=False))
    tracker.update(panorama.frame(0.3))
    assert [[view.camera for view in pair] for pair in asked[1:]] == [["colour", "thermal"], ["thermal", "colour"]]
    assert found[1:] == [None, None]
    tracker.camera_motion = RotationMotion(panorama.rotation, lambda: CAMERA)
    tracker.update(panorama.frame(0.5))


def test_every_place_of_a_target_is_carried() -> None:
    class Panning:
        def between(self, *_: object) -> np.ndarray:
            return np.array(((1.0, 0.0, 10.0), (0.0, 1.0, -5.0), (0.0, 0.0, 1.0)))

    places = [BoundingBox(100.0 + 20 * step, 100.0, 30.0, 40.0) for step in range(4)]
    fields = ("trusted_box", "last_box", "candidate", "rival")
    confidence = replace(
        Confidence.begin(places[0]), **dict(zip(fields, places, strict=True)), bystander=Bystander(places[0], 9)
    )
    seen = Sight(frame=None, memory=None, box=places[1], place=places[2], age=0)
    trail = (replace(seen, place=places[3]),)
    target = TargetState(
        confidence, template=None, first=None, cameras=(True, True), view="before", seen=seen, trail=trail
    )
    moved = carried({1: target}, Panning(), "after", FRAME_SIZE)[1]
    later = [getattr(moved.confidence, field) for field in fields]
    for now, place in zip(
        [*later, moved.confidence.bystander.box, moved.seen.place, moved.trail[0].place],
        [*places, *places[::2], places[3]],
        strict=True,
    ):
        np.testing.assert_allclose(now, (place.x + 10, place.y - 5, place.w, place.h))
    assert moved.seen.box == places[1], "in pixels of its own frame"
    np.testing.assert_allclose(moved.seen.then(moved.confidence.trusted_box), seen.then(places[0]))


def test_a_frame_that_fails_leaves_the_boxes_where_they_were(panorama: Panorama, correlation, monkeypatch) -> None:
    tracker = Tracker(correlation, Modality.THERMAL)
    tracker.camera_motion = ImageMotion()
    tracker.start(panorama.frame(0.0), panorama.box(0.0))
    first = tracker.update(panorama.frame(1 / RATE_HZ))
    with monkeypatch.context() as broken:
        broken.setattr(correlation, "track", lambda *_: np.full((1, len(Prediction._fields)), np.nan, np.float32))
        with pytest.raises(TrackerError):
            tracker.update(panorama.frame(2 / RATE_HZ))
    second = tracker.update(panorama.frame(2 / RATE_HZ))
    assert center_error(second.box, panorama.box(2 / RATE_HZ)) < 0.4 * SIDE
    assert second.box != first.box


@given(
    st.lists(st.floats(-1e3, 1e3), min_size=9, max_size=9),
    st.tuples(st.floats(-500, 900), st.floats(-500, 900), st.floats(1, 500), st.floats(1, 500)),
)
def test_whatever_the_motion_a_box_stays_a_box_near_the_frame(values: list[float], box: tuple[float, ...]) -> None:
    before = BoundingBox(*box)
    carried = moved_box(before, np.array(values).reshape(3, 3), FRAME_SIZE)
    assert carried.is_finite()
    assert carried.w > 0
    assert carried.h > 0
    if carried != before:
        x, y = carried.center
        assert -WIDTH - 1e-6 <= x <= 2 * WIDTH + 1e-6
        assert -HEIGHT - 1e-6 <= y <= 2 * HEIGHT + 1e-6


@pytest.mark.parametrize("scale", [1.5, 1.02, 0.98, 0.6])
def test_a_box_is_carried_for_an_hour_without_outgrowing_the_frame_or_vanishing(scale: float) -> None:
    box = BoundingBox(150.0, 110.0, 20.0, 40.0)
    for _ in range(10_000):
        box = moved_box(box, np.diag((scale, scale, 1.0)), FRAME_SIZE)
    assert min(box.w, box.h) >= 3.9
    assert max(box.w, box.h) <= WIDTH + 0.1
    assert box.h / box.w == pytest.approx(2, rel=0.01)
