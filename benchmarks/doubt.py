"""What a frame in doubt costs: as foreseen, with a second look, and with looks back at older frames.

The same frame is tracked in every round, from states of the same target that differ in what they ask; how often the
network was asked is counted.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

from benchmarks.harness import Row, interleaved, rows_against
from ckd_core import DEFAULT_MODEL
from ckd_core.data.synthetic import clip
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.confidence.trail import EVERY, LONGEST
from ckd_core.tracking.engines.build import build_engine
from ckd_core.tracking.multi import MultiTracker
from ckd_core.tracking.result import TrackState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckd_core.tracking.looks import TargetState

TITLE = "Frames in doubt, 640 x 480 colour and thermal"
SIZE, TARGET, SETTLED = (640, 480), 0, 12  # frames until the target is known well
OTHER_SIZE = 1.4  # times the size that it has, so that a claim has to wait
CERTAIN = "as foreseen"


def run(quick: bool) -> list[Row]:
    """Rows by what is asked, against a frame without doubt."""
    film = clip(77, Modality.THERMAL, SETTLED + 2, SIZE)
    built = build_engine(DEFAULT_MODEL, engine="auto")
    tracker = MultiTracker(built.engine, Modality.THERMAL, built.config_for(None), built.thresholds)
    tracker.start(film.frames[0], {TARGET: BoundingBox(*map(float, film.boxes[0]))})
    for frame in film.frames[1:-1]:
        tracker.update(frame)
    states, newest = _states(tracker._targets[TARGET]), film.frames[-1]
    calls = {name: _calls(tracker, state, newest) for name, state in states.items()}
    timings = interleaved(
        {name: partial(_track, tracker, state, newest) for name, state in states.items()}, 20 if quick else 200
    )
    model = {"model": DEFAULT_MODEL, "engine": tracker.engine.name}
    return [{**row, "calls": calls[str(row["name"])], **model} for row in rows_against(timings, CERTAIN)]


def _states(certain: TargetState) -> Mapping[str, TargetState]:
    """A target as it is, and as though it had jumped to where it is from a side away or from another size.

    Those from a side away with and without a second peak; they are followed back, through one frame or through as many
    as are ever kept.
    """
    assert certain.seen is not None
    box = certain.confidence.trusted_box
    away = box._replace(x=box.x + box.w, y=box.y + box.h)
    rival = replace(certain, confidence=replace(certain.confidence, rival=away))
    jumped = replace(certain.confidence, state=TrackState.UNCERTAIN, jumped=True, good_frames=1)
    seen = replace(certain.seen, box=away, place=away, age=certain.age)
    trail = tuple(replace(seen, age=age) for age in range(seen.age + 1, seen.age + LONGEST, EVERY))
    followed = replace(certain, confidence=jumped, seen=seen)
    larger = tuple(OTHER_SIZE * size for size in jumped.sizes)
    return {
        CERTAIN: certain,
        "a second look": rival,
        "followed back through one frame": followed,
        "a second look, and followed back": replace(followed, confidence=replace(jumped, rival=away)),
        "followed back as far as ever": replace(followed, age=seen.age + LONGEST - 1, trail=trail),
        "a recollection": replace(certain, confidence=replace(jumped, sizes=larger)),
    }


def _track(tracker: MultiTracker, state: TargetState, frame: MultiModalFrame) -> None:
    tracker._targets = {TARGET: state}
    tracker.update(frame)


def _calls(tracker: MultiTracker, state: TargetState, frame: MultiModalFrame) -> int:
    """How often a frame from this state asks the network about a window."""
    with patch.object(tracker.engine, "track", wraps=tracker.engine.track) as asked:
        _track(tracker, state, frame)
    return asked.call_count
