from __future__ import annotations

import numpy as np
import pytest

from ckd_core.frame import BoundingBox, FrameError, Modality, MultiModalFrame, check_frame

RGB = np.zeros((20, 30, 3), dtype=np.uint8)
DEPTH = np.zeros((10, 15), dtype=np.uint16)


def frame(rgb=RGB, aux=DEPTH, modality=Modality.DEPTH, stamp=1.0, **homographies) -> MultiModalFrame:
    return MultiModalFrame(stamp, rgb, aux, modality, **homographies)


@pytest.mark.parametrize(
    "good",
    [
        frame(),
        frame(aux=None),
        frame(rgb=None),
        frame(aux=DEPTH.astype(np.float32)),
        frame(aux=DEPTH[..., None]),
        frame(rgb=np.zeros((20, 64, 3), dtype=np.uint8)[:, :30]),  # padded rows, as image messages have them
        frame(aux=np.zeros((10, 15, 3), dtype=np.uint8), modality=Modality.EVENT),
        frame(aux=np.zeros((10, 15), dtype=np.uint8), modality=Modality.THERMAL),
        frame(aux_from_reference=np.eye(3)),
    ],
)
def test_usable_frames_pass(good: MultiModalFrame) -> None:
    check_frame(good)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (frame(rgb=None, aux=None), "neither a colour nor a depth image"),
        (frame(stamp=float("nan")), "finite number of seconds, got nan"),
        (frame(rgb=RGB[..., 0]), r"\[H, W, C\], got shape 20x30"),
        (frame(rgb=RGB[..., :2]), "3 channels, got 2"),
        (frame(rgb=np.zeros((20, 30, 4), dtype=np.uint8)), "3 channels, got 4"),
        (frame(rgb=RGB[:0]), "at least 2 x 2"),
        (frame(rgb=RGB.astype(np.float32)), "uint8, got float32"),
        (frame(rgb=RGB[..., ::-1]), "ascontiguousarray"),
        (frame(rgb=RGB[:, ::2]), "ascontiguousarray"),
        (frame(rgb=RGB[::-1]), "ascontiguousarray"),
        (frame(rgb=np.zeros((3, 20, 30), dtype=np.uint8).transpose(1, 2, 0)), "ascontiguousarray"),
        (frame(aux=DEPTH.astype(np.float64)), "uint8 or uint16 or float32, got float64"),
        (frame(aux=DEPTH, modality=Modality.EVENT), "event image must be uint8, got uint16"),
        (frame(aux=np.zeros((10, 15, 3), dtype=np.uint16)), "three-channel depth image must be uint8, got uint16"),
        (frame(aux=np.zeros((10, 15, 2), dtype=np.uint8), modality=Modality.THERMAL), "1 or 3 channels, got 2"),
        (frame(aux=DEPTH.T), "ascontiguousarray"),
        (frame(aux_from_reference=np.eye(2)), "aux_from_reference must be a finite 3x3"),
        (frame(aux_from_reference=[[1, 0, 0], [0, 1, 0], [0, 0, 1]]), "aux_from_reference must be a finite 3x3"),
        (frame(rgb=RGB.tolist()), "colour image must be a numpy array, got list"),
        (frame(stamp=None), "finite number of seconds, got None"),
        (frame(rgb_from_reference=np.full((3, 3), np.nan)), "rgb_from_reference must be a finite 3x3"),
        (frame(aux_from_reference=np.diag((1.0, 0.0, 1.0))), "aux_from_reference maps the whole image to a line"),
    ],
)
def test_other_frames_are_refused_by_name(bad: MultiModalFrame, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        check_frame(bad)


def test_a_frame_knows_its_images_and_a_box_its_center() -> None:
    assert frame(aux=None).presence == (True, False)
    assert BoundingBox(10, 20, 4, 6).center == (12, 23)
    assert not BoundingBox(0, 0, float("inf"), 1).is_finite()
