"""The account of the middleware's buffers is never below what they can hold, and one large image is counted once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sdstrack_ros.node.inputs.queue_memory import COPIES_UNDER_WAY, QueueMemory


@given(st.integers(1, 6), st.data())
def test_buffers_that_keep_their_largest_message_fit_into_the_account(depth: int, data: st.DataObject) -> None:
    queue, buffers = QueueMemory(depth), [0] * (depth + 1)
    for size in data.draw(st.lists(st.integers(0, 10_000), max_size=60)):
        buffer = data.draw(st.integers(0, depth))
        buffers[buffer] = max(buffers[buffer], size)
        queue.took(size)
        assert queue.nbytes >= sum(buffers) + COPIES_UNDER_WAY * size


def test_a_camera_that_became_smaller_is_counted_at_its_old_size_and_one_large_image_once() -> None:
    shrunk, glitched = QueueMemory(5), QueueMemory(5)
    for size in [1000] * 20 + [10] * 100:
        shrunk.took(size)
    for size in [10] * 20 + [1000] + [10] * 100:
        glitched.took(size)
    assert shrunk.nbytes == 6 * 1000 + COPIES_UNDER_WAY * 10
    assert glitched.nbytes == 1000 + (5 + COPIES_UNDER_WAY) * 10
