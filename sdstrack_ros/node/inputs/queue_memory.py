"""What the middleware holds of one stream of images. No ROS import."""

from __future__ import annotations

import heapq

# A message as rmw takes it, the same as a Python object, and in the frame that is being tracked.
COPIES_UNDER_WAY = 3


class QueueMemory:
    """Bytes of a subscription's queue and of the copies on their way out of it, at most.

    The middleware keeps each buffer of the queue, and the one that it receives into, at the size of the largest message
    that was ever in it, until the subscription goes. Together they are never larger than as many of the largest ones:
    a camera that has become smaller still fills them, and a single large image fills one.
    """

    def __init__(self, depth: int) -> None:
        """Begin without any message.

        Args:
            depth: of the queue, in messages.

        """
        self._buffers = depth + 1
        self._largest: list[int] = []  # a heap
        self._newest = 0

    @property
    def nbytes(self) -> int:
        """All of it, whether it is there or not."""
        return sum(self._largest) + COPIES_UNDER_WAY * self._newest

    def took(self, nbytes: int) -> None:
        """Account for one more message."""
        self._newest = nbytes
        if len(self._largest) < self._buffers:
            heapq.heappush(self._largest, nbytes)
        else:
            heapq.heappushpop(self._largest, nbytes)
