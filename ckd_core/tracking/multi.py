"""Several targets in one stream of frames, one batched network call per frame in which none is in doubt."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ckd_core.boxes import clip_box
from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from ckd_core.tracking.confidence.bystanders import bystander_after, is_sure_of, steady_frames
from ckd_core.tracking.confidence.evidence import Evidence, is_credible, is_suspicious
from ckd_core.tracking.confidence.observe import observe
from ckd_core.tracking.confidence.rivals import chosen, rival_of
from ckd_core.tracking.confidence.search import Turn, is_taken, next_turn, observe_lost, scan_places
from ckd_core.tracking.confidence.state import Confidence, growth_of, predicted_box
from ckd_core.tracking.confidence.thresholds import Thresholds
from ckd_core.tracking.confidence.trail import EVERY, Sight, trail_after
from ckd_core.tracking.config import PUBLISHED_MOTION, SQUARE_MOTION, MissingPolicy, TrackerConfig
from ckd_core.tracking.crop import CropWindow, window_around
from ckd_core.tracking.look_back import LookBack
from ckd_core.tracking.looks import Look, Looker, TargetState, TargetTemplate, error_of, is_calm, looks_as_usual
from ckd_core.tracking.response import hann_weights
from ckd_core.tracking.result import StageTiming, TrackResult, TrackState
from ckd_core.tracking.start_box import fitted
from ckd_core.tracking.steps import TrackerError, carried, check_box, towards
from ckd_core.tracking.view import AUX, RGB, FrameView, same_stream
from ckd_core.tracking.witnesses.witnesses import Witnesses

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from ckd_core.tracking.camera_motion import CameraMotion
    from ckd_core.tracking.engines import Engine, Templates
    from ckd_core.tracking.engines.base import Prediction
    from ckd_core.tracking.view import StreamMemory
    from ckd_core.tracking.witnesses.box_depth import Expected


class MultiTracker:
    """Follows any number of targets, each identified by an int, with its own state, box and template.

    Several targets cost less than a `Tracker` each: what a frame has is prepared once, targets side by side keep all
    cores busy, and a target among others that moves as foreseen gets a smaller search region where the engine can
    (`Engine.narrow_size`). Of the LOST ones one is searched for per frame, in turn, so that several cost no more than
    one.

    Every method leaves the tracker as it was when it raises. Not for use by two threads at once.

    Attributes:
        engine: How the network runs.
        modality: Kind of the auxiliary stream.
        config: Options in force.
        thresholds: Thresholds in force; new ones count from the next frame on.
        camera_motion: Foresees how the camera's own motion carries the boxes along; None takes the camera for still.
    """

    def __init__(
        self,
        engine: Engine,
        modality: Modality,
        config: TrackerConfig | None = None,
        thresholds: Thresholds | None = None,
    ) -> None:
        self.engine = engine
        self.modality = modality
        self.config = config or TrackerConfig()
        self.thresholds = self.config.thresholds or thresholds or Thresholds()
        self.camera_motion: CameraMotion | None = None
        self._published = self.config.published_geometry is not False
        self._view = FrameView(modality, self.config, engine.threads)
        self._witnesses = Witnesses(self._view, engine, modality, self.config)
        self._memory: StreamMemory | None = None
        self._targets: dict[int, TargetState] = {}
        self._turn: Turn | None = None
        self._frames = 0  # since the start
        self._most_bytes = 1e6 * self.config.kept_mb
        self._looks_back = self.config.confidence.looks_back(engine.spec.square_boxes)
        self._refreshes = self.config.refreshes(engine.spec.square_boxes)
        self._fits_start = self.config.fits_start(engine.spec.square_boxes)
        motion = self.config.motion or (SQUARE_MOTION if engine.spec.square_boxes else PUBLISHED_MOTION)
        self._size_rate, self._prediction, self._bounded = motion.size_rate, motion.prediction, motion.bounded
        weights = 1 - motion.place_weight * (1 - hann_weights(engine.spec.grid))
        self._looker = Looker(engine, self._view, weights, self.config.device_crops)

    @property
    def targets(self) -> tuple[int, ...]:
        """The targets' numbers in the order in which they were added."""
        return tuple(self._targets)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the images that are kept of earlier frames (see `Sight`)."""
        sights = [sight for target in self._targets.values() for sight in (target.seen, *target.trail)]
        return sum({id(image): image.nbytes for one in sights if one is not None for image in one.images}.values())

    def start(self, frame: MultiModalFrame, boxes: Mapping[int, BoundingBox]) -> dict[int, BoundingBox]:
        """Forget everything and follow `boxes` (xywh in reference pixels by target), as they are in `frame`.

        Returns:
            The boxes that it starts on, which need not be those given (`TrackerConfig.fit_start`).

        Raises:
            FrameError: The frame cannot be used.
            TrackerError: There is no box, or one is at most 1 px wide or high, not finite, or outside the frame.
        """
        if not boxes:
            raise TrackerError("boxes is empty; start needs at least one box")
        memory = self._view.check(frame, None)
        self._targets = self._embed(frame, memory, boxes)
        self._memory = self._view.remember(frame, memory)
        self._frames = 0
        return {name: target.confidence.trusted_box for name, target in self._targets.items()}

    def add(self, frame: MultiModalFrame, target: int, box: BoundingBox) -> BoundingBox:
        """Follow one more target from `frame` on; a target of that number is replaced.

        Returns:
            The box that it starts on, see `start`.

        Raises:
            FrameError: The frame cannot be used.
            TrackerError: No tracker can start on the box.
        """
        memory = self._view.check(frame, self._memory)
        added = self._embed(frame, memory, {target: box})
        self._targets = {**self._targets, **added}
        self._memory = self._view.remember(frame, memory)
        return added[target].confidence.trusted_box

    def remove(self, target: int) -> None:
        """Stop following a target.

        Raises:
            TrackerError: There is no such target.
        """
        if target not in self._targets:
            raise TrackerError(f"unknown target {target}; expected one of: {', '.join(map(str, self._targets))}")
        self._targets = {name: state for name, state in self._targets.items() if name != target}

    def fork(self) -> MultiTracker:
        """Return a tracker without targets, with this one's engine and options.

        It follows new targets through frames that this tracker has already seen; then `join` takes them over.
        """
        fork = MultiTracker(self.engine, self.modality, self.config)
        fork.thresholds, fork.camera_motion = self.thresholds, self.camera_motion
        fork._most_bytes = self._most_bytes - self.kept_bytes
        return fork

    def join(self, fork: MultiTracker) -> None:
        """Take over all targets of a `fork`; a target of the same number is replaced.

        Raises:
            FrameError: The images of the fork's frames have other sizes than those of the targets here.
            TrackerError: The fork has no target.
        """
        if fork._memory is None:
            raise TrackerError("the fork has no target; start it before join")
        memory = self._memory if self._targets else None
        self._memory = fork._memory if memory is None else same_stream(memory, fork._memory)
        self._frames = fork._frames if memory is None else self._frames
        self._targets = {**self._targets, **fork._targets}

    def reset(self) -> None:
        """Forget all targets and the stream."""
        self._targets = {}
        self._memory = None
        self._turn = None
        self._frames = 0

    def update(self, frame: MultiModalFrame) -> dict[int, TrackResult]:
        """Follow all targets into `frame`.

        Raises:
            TrackerError: There is no target yet, or the network's output is not finite.
            FrameError: The frame cannot be used.
        """
        if not self._targets or self._memory is None:
            raise TrackerError("update was called before start: there is no target to follow")
        memory = self._view.check(frame, self._memory)
        before, view = self._targets, self._seen(frame, memory)
        self._targets = carried(self._targets, self.camera_motion, view, memory.size)
        try:
            return self._follow(frame, memory)
        except BaseException:
            self._targets = before
            raise

    def _follow(self, frame: MultiModalFrame, memory: StreamMemory) -> dict[int, TrackResult]:
        """The rest of `update`, with boxes that are already where the camera's motion carries them."""
        begin = time.perf_counter()
        lost = {name: target.confidence for name, target in self._targets.items() if self._searched_for(target)}
        turn = next_turn(self._turn, lost, self.config.confidence)
        looks = [look for name in self._targets for look in self._looks(name, frame, memory, turn)]
        predictions, network_s = self._predict(frame, memory, looks)
        predicted = time.perf_counter()
        self._witnesses.begin(frame)
        evidence: dict[int, list[Evidence]] = {name: [] for name in self._targets}
        for look, prediction in zip(looks, predictions, strict=True):
            evidence[look.target].append(self._evidence(look, prediction, frame, memory, lost))
        look_back = LookBack(
            self._predict, self._embedded, self._search_window, self.thresholds, self.config.confidence
        )
        told, back_s = look_back.tell(evidence, self._targets, frame, memory)
        keep = self._frames % EVERY == 0 and self.kept_bytes < self._most_bytes  # the same for all targets
        targets = {
            name: self._advance(target, told[name], frame, memory, keep) for name, target in self._targets.items()
        }
        targets = self._refresh(frame, memory, targets)
        count = len(self._targets)
        timing = StageTiming(
            crop=(predicted - begin - network_s) / count,
            network=(network_s + back_s) / count,
            post=(time.perf_counter() - predicted - back_s) / count,
        )
        self._targets = targets
        self._turn = turn
        self._frames += 1
        self._memory = self._view.remember(frame, memory)
        rgb, aux = frame.presence
        return {
            name: TrackResult(
                stamp=frame.stamp,
                box=target.confidence.trusted_box,
                score=target.score,
                state=target.confidence.state,
                rgb_present=rgb,
                aux_present=aux,
                timing=timing,
                reference_size=memory.size,
                distance=self._distance(target, frame.stamp),
            )
            for name, target in targets.items()
        }

    def _distance(self, target: TargetState, stamp: float) -> Expected | None:
        course = target.confidence.course
        return None if course is None else course.at(stamp, self.config.distance)

    def _seen(self, frame: MultiModalFrame, memory: StreamMemory) -> object:
        return None if self.camera_motion is None else self.camera_motion.view(frame, memory.size)

    def _embed(
        self, frame: MultiModalFrame, memory: StreamMemory, boxes: Mapping[int, BoundingBox]
    ) -> dict[int, TargetState]:
        for name, box in boxes.items():
            check_box(box, memory.size, name)
        view = self._seen(frame, memory)
        self._witnesses.begin(frame)
        targets = {}
        for name, box in boxes.items():
            start = BoundingBox(*(float(value) for value in box))
            if self._fits_start:
                self_look = partial(self._self_look, frame, memory)
                template, start = fitted(start, partial(self._template, frame, memory), self_look)
            else:
                template = self._template(frame, memory, start)
            self._witnesses.look_into(start, None)
            confidence = replace(
                Confidence.begin(start),
                course=self._witnesses.sighted(frame, start, memory, None).course,
                portrait=self._witnesses.recognised(None).portrait,
                gallery=self._witnesses.resembled(start, None, False).gallery if self._witnesses.compares else None,
            )
            seen = Sight.now(frame, memory, start, 0) if self._looks_back else None
            targets[name] = TargetState(confidence, template, template, frame.presence, view=view, seen=seen)
        return targets

    def _self_look(
        self, frame: MultiModalFrame, memory: StreamMemory, box: BoundingBox, template: TargetTemplate
    ) -> tuple[BoundingBox, float]:
        """What the template of a box finds around it in the same frame, and its score."""
        look = Look(0, template.of(frame), self._search_window(box), scanning=False, sought=(frame.stamp, box))
        try:
            (prediction,), _ = self._predict(frame, memory, [look])
            found = look.window.from_crop((prediction.cx, prediction.cy, prediction.w, prediction.h))
            check_box(found, memory.size, look.target)
        except TrackingError:  # a start needs no answer: the target is followed from the given box on
            return box, 0.0
        return found, prediction.score

    def _template(self, frame: MultiModalFrame, memory: StreamMemory, box: BoundingBox) -> TargetTemplate:
        crops = self._template_crops(frame, memory, box)
        both = self.engine.embed_template(crops)
        if self.config.missing is not MissingPolicy.ALONE:
            return TargetTemplate(both, both, both)
        pair, alone = crops.copy(), []
        for stream in (RGB, AUX):
            crops[:] = pair[:, stream, None]
            alone.append(self.engine.embed_template(crops))
        return TargetTemplate(both, *alone)

    def _embedded(self, frame: MultiModalFrame, memory: StreamMemory, box: BoundingBox) -> Templates:
        """A template for frames with the same cameras as this one."""
        return self.engine.embed_template(self._template_crops(frame, memory, box))

    def _template_crops(self, frame: MultiModalFrame, memory: StreamMemory, box: BoundingBox) -> NDArray[np.uint8]:
        """Crops [1, 2, T, T, 3] of a box; they are the engine's own buffer, which is overwritten."""
        crops = self.engine.template_crops(1)
        self._view.begin(frame, memory)  # another frame may have been looked at
        self._view.cut(self._window(box, self.engine.spec.template_factor), crops[0])
        return crops

    def _searched_for(self, target: TargetState) -> bool:
        return target.confidence.state is TrackState.LOST and self.config.confidence.reacquire

    def _looks(self, name: int, frame: MultiModalFrame, memory: StreamMemory, turn: Turn | None) -> list[Look]:
        target = self._targets[name]
        confidence, factor = target.confidence, self.engine.spec.search_factor
        narrow = 0
        if not self._searched_for(target):
            growth = growth_of(confidence, self.config.confidence)
            if len(self._targets) > 1 and growth == 1 and is_calm(target) and not self.config.device_crops:
                narrow = self.engine.narrow_size
            factor *= growth * (narrow / self.engine.spec.search_size if narrow else 1.0)
            windows = [(self._window(predicted_box(confidence, self._prediction), factor), False)]
        elif turn is None or turn.target != name:
            windows = []
        elif confidence.candidate is not None:
            windows = [(self._window(confidence.candidate, factor), False)]
        else:
            windows = self._scan_windows(confidence, memory)
        template, learnt = target.template.of(frame), target.learnt
        looks = [Look(name, template, window, scanning, narrow, learnt=learnt) for window, scanning in windows]
        if looks and confidence.rival is not None:
            window = self._search_window(confidence.rival)
            looks.append(Look(name, template, window, scanning=False, second=True, learnt=learnt))
        return looks

    def _window(self, box: BoundingBox, factor: float) -> CropWindow:
        return window_around(box, factor, self._published, square_boxes=self.engine.spec.square_boxes)

    def _search_window(self, box: BoundingBox) -> CropWindow:
        return self._window(box, self.engine.spec.search_factor)

    def _scan_windows(self, confidence: Confidence, memory: StreamMemory) -> list[tuple[CropWindow, bool]]:
        """Windows for a lost target: in turn its last trusted place and the next tiles of the frame."""
        config = self.config.confidence
        factor = self.engine.spec.search_factor * config.tile_scale
        places = scan_places(confidence, memory.size, factor, config)
        return [(self._window(place, factor), True) for place in places]

    def _predict(
        self, frame: MultiModalFrame, memory: StreamMemory, looks: list[Look]
    ) -> tuple[list[Prediction], float]:
        """Predictions for all looks, and the seconds that the network took."""
        return self._looker.predict(frame, memory, looks)

    def _evidence(
        self,
        look: Look,
        prediction: Prediction,
        frame: MultiModalFrame,
        memory: StreamMemory,
        lost: Collection[int],
    ) -> Evidence:
        """What a look says; where another target is TRACKING, nothing of one that is `lost` or has a second look."""
        box = look.window.from_crop((prediction.cx, prediction.cy, prediction.w, prediction.h))
        rival_box = look.window.from_crop(
            (prediction.rival_cx, prediction.rival_cy, prediction.rival_w, prediction.rival_h)
        )
        confidence = self._targets[look.target].confidence
        if self._size_rate < 1 and confidence.state is not TrackState.LOST and not look.second:
            box = towards(confidence.trusted_box, box, self._size_rate)
        box = clip_box(box, memory.size, self.config.clip_margin)
        taken = (look.second or look.target in lost) and is_taken(box, self._followed_beside(look.target))
        score = 0.0 if taken else prediction.score
        sighting = self._witnesses.sighted(frame, box, memory, confidence.course)
        self._witnesses.look_into(box, confidence.gallery)
        recognition = self._witnesses.recognised(confidence.portrait)
        rival = prediction.rival / score if score > 0 else 1.0
        veiled = self._witnesses.veiled
        evidence = Evidence(box, score, rival, sighting, recognition, veiled=veiled, rival_box=rival_box)
        if not self._witnesses.compares or not is_credible(confidence, evidence, self.thresholds):
            return evidence  # no box of a frame in doubt changes what is known of the target
        asked = is_suspicious(confidence, evidence, self.thresholds, self.config.confidence)
        return replace(evidence, resemblance=self._witnesses.resembled(box, confidence.gallery, asked))

    def _followed_beside(self, target: int) -> list[BoundingBox]:
        others = (state.confidence for name, state in self._targets.items() if name != target)
        return [other.trusted_box for other in others if other.state is TrackState.TRACKING]

    def _advance(
        self, target: TargetState, looks: list[Evidence], frame: MultiModalFrame, memory: StreamMemory, keep: bool
    ) -> TargetState:
        """State after this frame, of which images may be kept. A LOST target may have had no turn."""
        config, age = self.config.confidence, target.age + 1
        if not looks:
            before = target.confidence
            sight = Sight.now(frame, memory, before.trusted_box, age, steady=False)
            trail = trail_after(target.trail, target.seen, sight, keep)
            after = replace(before, bystander=bystander_after(before.bystander, looks, config))
            return replace(target, age=age, confidence=after, sure=False, trail=trail)
        best = chosen(target.confidence, looks, self.thresholds)
        target = replace(target, error=error_of(target, best.box, self._prediction))
        if self._searched_for(target):
            after = observe_lost(target.confidence, best, self.thresholds, config)
        else:
            after = observe(target.confidence, best, self.thresholds, config, self._bounded)
            if after.trusted_box not in (best.box, target.confidence.trusted_box):  # bounded, and so perhaps larger
                after = replace(after, trusted_box=clip_box(after.trusted_box, memory.size, self.config.clip_margin))
        rival = rival_of(target.confidence, after, looks, best, config)
        after = replace(after, rival=rival, bystander=bystander_after(target.confidence.bystander, looks, config))
        steady, seen = steady_frames(target.steady, after), target.seen
        sight = Sight.now(frame, memory, after.trusted_box, age, steady > 0)
        sure = is_sure_of(after, best, steady, self.thresholds)
        if sure and self._looks_back:
            seen = sight
        trail = trail_after(target.trail, seen, sight, keep)
        return replace(
            target, confidence=after, age=age, score=best.score, steady=steady, sure=sure, seen=seen, trail=trail
        )

    def _refresh(
        self, frame: MultiModalFrame, memory: StreamMemory, targets: dict[int, TargetState]
    ) -> dict[int, TargetState]:
        """Blend a sure look into the templates that are due, in a frame with the images of their first one."""
        config = self.config
        if not self._refreshes:
            return targets
        refreshed = dict(targets)
        for index, (name, target) in enumerate(targets.items()):
            if (self._frames + 1 + index) % config.template_every or frame.presence != target.cameras:
                continue  # each target has its own turn, so that no frame pays for all of them
            if not looks_as_usual(target, config.template_score):
                continue
            box = target.confidence.trusted_box
            newest = self._template(frame, memory, box)
            blended = target.first.blended(newest, config.template_share, self.engine)
            refreshed[name] = replace(target, template=blended, learnt=(frame.stamp, box))
        return refreshed
