from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ckd_core import boxes
from ckd_core.boxes import BoxError, clip_box
from ckd_core.frame import BoundingBox

coordinate = st.floats(-2000, 2000)
length = st.floats(0.01, 3000)
box_lists = st.lists(st.tuples(coordinate, coordinate, length, length), min_size=1, max_size=5)


@given(box_lists)
def test_both_notations_name_the_same_corners(values: list[tuple[float, ...]]) -> None:
    xywh = np.array(values)
    corners = boxes.xywh_to_xyxy(xywh)
    np.testing.assert_array_equal(corners[:, :2], xywh[:, :2])
    np.testing.assert_allclose(corners[:, 2:] - corners[:, :2], xywh[:, 2:], atol=1e-9)
    cxcywh = np.concatenate((xywh[:, :2] + xywh[:, 2:] / 2, xywh[:, 2:]), axis=1)
    np.testing.assert_allclose(boxes.cxcywh_to_xyxy(cxcywh), corners, atol=1e-9)


@given(box_lists, box_lists)
def test_numpy_and_torch_agree(first: list[tuple[float, ...]], second: list[tuple[float, ...]]) -> None:
    count = min(len(first), len(second))
    a, b = boxes.xywh_to_xyxy(np.array(first[:count])), boxes.xywh_to_xyxy(np.array(second[:count]))
    for ours, theirs in zip(boxes.giou(a, b), boxes.giou(torch.from_numpy(a), torch.from_numpy(b)), strict=True):
        np.testing.assert_allclose(theirs.numpy(), ours, atol=1e-12)


@given(box_lists)
def test_iou_of_a_box_with_itself_is_one(values: list[tuple[float, ...]]) -> None:
    xywh = np.array(values)
    np.testing.assert_allclose(boxes.iou_xywh(xywh, xywh), 1, atol=1e-6)


def test_giou_is_the_published_one(golden_dir) -> None:
    golden = np.load(golden_dir / "prepost.npz")
    generalised, overlap = boxes.giou(golden["giou_pred"], golden["giou_target"])
    np.testing.assert_allclose(generalised, golden["giou"], atol=1e-6)
    np.testing.assert_allclose(overlap, golden["iou"], atol=1e-6)
    tensors = [torch.from_numpy(golden[name]).requires_grad_() for name in ("giou_pred", "giou_target")]
    loss = (1 - boxes.giou(*tensors)[0]).mean()
    np.testing.assert_allclose(loss.item(), golden["giou_loss"], atol=1e-6)
    loss.backward()
    assert tensors[0].grad is not None
    assert tensors[0].grad.abs().sum() > 0


def test_empty_boxes_do_not_overlap() -> None:
    empty = np.zeros((1, 4))
    assert boxes.iou(empty, empty)[0] == 0


def test_an_array_of_another_shape_is_refused() -> None:
    with pytest.raises(BoxError, match=r"\[\.\.\., 4\].*\[2, 3\]"):
        boxes.xywh_to_xyxy(np.zeros((2, 3)))


def test_clip_is_the_published_one(golden_dir) -> None:
    golden = np.load(golden_dir / "prepost.npz")
    for margin, name in ((10.0, "clip_out_m10_f64"), (0.0, "clip_out_m0_f64")):
        for given_box, expected in zip(golden["clip_in_f64"], golden[name], strict=True):
            np.testing.assert_allclose(clip_box(BoundingBox(*given_box), (240, 320), margin), expected, atol=1e-12)


@given(
    st.builds(BoundingBox, coordinate, coordinate, length, length),
    st.tuples(st.integers(1, 900), st.integers(1, 900)),
    st.floats(1, 20),
)
def test_clipped_boxes_lie_in_the_frame(box: BoundingBox, size: tuple[int, int], margin: float) -> None:
    clipped = clip_box(box, size, margin)
    height, width = size
    assert clipped.x >= 0
    assert clipped.y >= 0
    assert clipped.x + clipped.w <= width + 1e-9
    assert clipped.y + clipped.h <= height + 1e-9
    assert clipped.w >= min(margin, width) - 1e-9
    assert clipped.h >= min(margin, height) - 1e-9


def test_a_frame_without_area_is_refused() -> None:
    with pytest.raises(BoxError, match="0 x 5"):
        clip_box(BoundingBox(0, 0, 1, 1), (0, 5))
