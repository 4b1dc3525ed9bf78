"""Work in one thread beside the caller's, in order: items read ahead, results written behind.

OpenCV decodes, draws and encodes without holding Python's lock, so a thread is enough; a process would have to copy
every image. What one thread does stays in it: a recording is opened, read and closed there.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

T = TypeVar("T")

# Items that wait at a time: enough for one slow image, little enough for the memory (4K pairs: 40 MB each).
# 0: one thing after the other, as `benchmarks/offline.py` does to compare.
WAITING = 4
_END = object()


@contextmanager
def read_ahead(items: Iterable[T]) -> Iterator[Iterator[T]]:
    """Iterate over `items` in another thread, up to `WAITING` items ahead of the caller.

    An error of `items` comes in its place in the order, after the items before it. At the end of the block, whatever
    the reason, the thread has ended, and `items`, if it is a generator, is closed.
    """
    source = iter(items)
    close: Callable[[], object] = getattr(source, "close", lambda: None)
    if not WAITING:
        try:
            yield source
        finally:
            close()
        return
    waiting: deque[Future[Any]] = deque()
    with ThreadPoolExecutor(1, "read-ahead") as thread:

        def ahead() -> Iterator[T]:
            while True:
                while len(waiting) < WAITING:
                    waiting.append(thread.submit(next, source, _END))
                item = waiting.popleft().result()
                if item is _END:
                    return
                yield item

        try:
            yield ahead()
        finally:
            for future in waiting:
                future.cancel()
            thread.submit(close).result()


@contextmanager
def write_behind(write: Callable[..., object]) -> Iterator[Callable[..., None]]:
    """Call `write` in another thread, up to `WAITING` calls behind the caller, in the caller's order.

    An error of `write` is raised at a later call or at the end of the block, and what still waits then is left out, as
    it is when the block ends by an error of its own. At the end of the block the thread has ended.
    """
    waiting: deque[Future[object]] = deque()
    with ThreadPoolExecutor(1, "write-behind") as thread:

        def later(*values: Any) -> None:
            waiting.append(thread.submit(write, *values))
            while len(waiting) > WAITING:
                waiting.popleft().result()

        try:
            yield later
            while waiting:
                waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
