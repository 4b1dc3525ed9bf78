"""What a tracker of several targets looks at, frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from ckd_core.tracking.looks import Look
    from ckd_core.tracking.multi import MultiTracker


def looks_per_frame(
    tracker: MultiTracker, monkeypatch: pytest.MonkeyPatch, told: Callable[[Look], int]
) -> list[list[int]]:
    """What `told` says of each look of each later frame, in the order of the batch; grows while the tracker runs.

    Looks back at older frames are left out.
    """
    seen: list[list[int]] = []
    predict = tracker._predict

    def watched(frame: Any, memory: Any, looks: list[Look]) -> Any:
        if all(look.hidden is None and look.sought is None for look in looks):
            seen.append([told(look) for look in looks])
        return predict(frame, memory, looks)

    monkeypatch.setattr(tracker, "_predict", watched)
    return seen
