from __future__ import annotations

import threading

import numpy as np
import pytest

from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.config import TrackerConfig
from ckd_core.tracking.crop import window_around
from ckd_core.tracking.view import FrameView

HEIGHT, WIDTH, CROP = 120, 160, 64
MAPPED = np.array(((0.5, 0.02, 3.0), (-0.01, 0.5, 2.0), (0.0, 0.0, 1.0)))


def frame_of(modality: Modality, homography: np.ndarray | None = None) -> MultiModalFrame:
    random = np.random.default_rng(3)
    rgb = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    height, width = (HEIGHT, WIDTH) if homography is None else (HEIGHT // 2, WIDTH // 2)
    aux = random.integers(400, 9000, (height, width)).astype(np.uint16)
    return MultiModalFrame(0.0, rgb, aux, modality, aux_from_reference=homography)


def windows(count: int, published: bool = True) -> list:
    boxes = [BoundingBox(5.0 + 23 * i, 60.0 - 9 * i, 20.0 + 3 * i, 30.0) for i in range(count)]
    return [window_around(box, 4.0, published, square_boxes=not published) for box in boxes]


def crops_of(view: FrameView, frame: MultiModalFrame, looks: list, together: bool) -> np.ndarray:
    crops = np.full((len(looks), 2, CROP, CROP, 3), 7, dtype=np.uint8)
    view.begin(frame, view.check(frame, None))
    if together:
        view.cut_all(looks, crops)
    else:
        for row, look in enumerate(looks):
            view.cut(look, crops[row])
    return crops


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("homography", [None, MAPPED], ids=["same pixels", "mapped"])
@pytest.mark.parametrize("modality", [Modality.DEPTH, Modality.THERMAL])
def test_windows_cut_together_are_those_cut_one_by_one(modality, homography, threads) -> None:
    frame = frame_of(modality, homography)
    for count, published in ((1, True), (2, False), (6, True), (6, False)):
        looks = windows(count, published)
        looks += looks[:1]  # as for a second template of the same target
        alone = crops_of(FrameView(modality, TrackerConfig()), frame, looks, together=False)
        together = crops_of(FrameView(modality, TrackerConfig(), threads), frame, looks, together=True)
        np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("modality", [Modality.DEPTH, Modality.THERMAL])
def test_windows_of_a_frame_may_be_cut_in_two_calls(modality) -> None:
    """As for second looks, which the network is asked about apart."""
    frame, looks = frame_of(modality), windows(6)
    alone = crops_of(FrameView(modality, TrackerConfig()), frame, looks, together=False)
    view = FrameView(modality, TrackerConfig())
    crops = np.zeros_like(alone)
    view.begin(frame, view.check(frame, None))
    for rows in (slice(0, 3), slice(3, 6)):
        view.cut_all(looks[rows], crops[rows])
    np.testing.assert_array_equal(crops, alone)


def test_what_windows_share_is_converted_once() -> None:
    frame = frame_of(Modality.DEPTH)
    for count, converted in ((1, ["part"]), (2, ["part", "part"]), (8, ["whole"])):
        view = FrameView(Modality.DEPTH, TrackerConfig())
        seen, convert = [], view._converter.convert

        def watched(part, seen=seen, convert=convert):
            seen.append("whole" if part.shape == (HEIGHT, WIDTH) else "part")
            return convert(part)

        view._converter.convert = watched
        small = [window_around(BoundingBox(20.0 * i, 40.0, 12.0, 12.0), 4.0) for i in range(count)]
        looks = small if count < 8 else windows(8)
        crops_of(view, frame, [*looks, *looks], together=True)
        assert seen == converted, "equal windows are cut once; many are cut out of an image that is converted once"


def test_the_next_frame_is_not_cut_out_of_the_one_before() -> None:
    first, second = frame_of(Modality.DEPTH), frame_of(Modality.DEPTH)
    second.aux[:] = second.aux[::-1] // 2
    view = FrameView(Modality.DEPTH, TrackerConfig())
    crops_of(view, first, windows(8), together=True)
    again = crops_of(view, second, windows(1), together=False)
    np.testing.assert_array_equal(
        again, crops_of(FrameView(Modality.DEPTH, TrackerConfig()), second, windows(1), together=False)
    )


def test_a_crop_that_fails_in_another_thread_is_no_silent_black() -> None:
    view, frame = FrameView(Modality.DEPTH, TrackerConfig(), threads=2), frame_of(Modality.DEPTH)
    other = threading.Event()

    def broken(*_: object) -> None:
        if threading.current_thread() is threading.main_thread():
            other.wait(5.0)
            return
        other.set()
        raise ValueError("no such window")

    for sampler in view._samplers:
        sampler.sample = broken
    with pytest.raises(ValueError, match="no such window"):
        crops_of(view, frame, windows(2), together=True)
