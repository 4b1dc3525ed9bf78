"""The real node with an engine whose calls can be delayed or made to fail by orders in a file.

The file named by SDSTRACK_ENGINE_ORDERS holds `block SECONDS`, `grind SECONDS`, `oom`, `lost` or `nan` as long as the
order stands. Only the first engine obeys, not one that takes over from it.
Beside it, `NAME.log` gets a line for each call that obeyed, and `concurrent` whenever two threads are inside the engine
at once.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckd_core.tracking.engines import Engine, build
from sdstrack_ros.node.tracker_node import main

if TYPE_CHECKING:
    from collections.abc import Sequence

ORDERS = Path(os.environ["SDSTRACK_ENGINE_ORDERS"])


class FaultyEngine(Engine):
    """Another engine, disturbed."""

    def __init__(self, inner: Engine) -> None:
        super().__init__(inner.name, inner.device, inner.spec)
        self._inner = inner
        self._inside = 0
        self._lock = threading.Lock()

    def template_crops(self, count: int) -> Any:
        """See `Engine`."""
        return self._inner.template_crops(count)

    def search_crops(self, count: int, side: int = 0) -> Any:
        """See `Engine`."""
        return self._inner.search_crops(count, side)

    def response_weights(self, count: int, side: int = 0) -> Any:
        """See `Engine`."""
        return self._inner.response_weights(count, side)

    def embed_template(self, crops: Any) -> Any:
        """See `Engine`."""
        return self._inner.embed_template(crops)

    def blend(self, first: Any, newest: Any, share: float) -> Any:
        """See `Engine`."""
        return self._inner.blend(first, newest, share)

    def join(self, templates: Sequence[Any]) -> Any:
        """See `Engine`."""
        return self._inner.join(templates)

    def track(self, templates: Any, crops: Any, response_weights: Any) -> Any:
        """See `Engine`."""
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                _note("concurrent")
        try:
            order = self._obey()
            rows = self._inner.track(templates, crops, response_weights)
            return rows * np.float32(np.nan) if order == "nan" else rows
        finally:
            with self._lock:
                self._inside -= 1

    def _obey(self) -> str:
        try:
            order, *rest = ORDERS.read_text().split()
        except (OSError, ValueError):
            return ""
        _note(order)
        if order == "block":
            time.sleep(float(rest[0]))
        if order == "grind":  # inside a library that neither looks up nor lets itself be interrupted
            hashlib.pbkdf2_hmac("sha256", b"password", b"salt", int(float(rest[0]) * 2_000_000))
        if order == "oom":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB (simulated)")
        if order == "lost":
            raise RuntimeError("CUDA error: unspecified launch failure (simulated)")
        return order


def _note(line: str) -> None:
    with ORDERS.with_suffix(".log").open("a") as stream:
        stream.write(line + "\n")


def _disturb_engines() -> None:
    original = build.engine_for

    def disturbed(*args: Any, **kwargs: Any) -> Engine:
        build.engine_for = original
        return FaultyEngine(original(*args, **kwargs))

    build.engine_for = disturbed


if __name__ == "__main__":
    _disturb_engines()
    sys.exit(main())
