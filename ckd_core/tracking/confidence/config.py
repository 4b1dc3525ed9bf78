"""Options of the state machine."""

from __future__ import annotations

from dataclasses import dataclass

from ckd_core.tracking.confidence.thresholds import ConfidenceError


@dataclass(frozen=True, slots=True)
class ConfidenceConfig:
    """Behaviour of the state machine.

    Attributes:
        enabled: False is the published behaviour: every box is trusted and the state is always TRACKING.
        lost_after: Doubtful frames in a row until LOST; one without any sign of the target counts UNSEEN_WEIGHT times.
        recover_after: Good frames in a row until TRACKING again, the last of them as high as `Thresholds.regain`.
        believe_after: Good frames in a row, or frames that show a re-acquired target, after which a lower score will
            do: the target looks different now.
        repaint_after: Frames of looking for a LOST target after which it may have other colours.
        alter_after: Frames of looking for it after which it may have other features.
        growth: Factor by which the search region grows per doubtful frame; 1 = never.
        max_growth: Bound on that growth.
        max_jump: Displacement of the centre per frame, as a multiple of sqrt(w h), above which a motion is implausible.
        max_scale: Change of sqrt(w h) against its recent median above which it is implausible.
        max_shape: Change of w / h against its recent median above which it is implausible: a box that swallows a
            neighbour beside the target.
        claim_jump: Displacement of the centre in a frame, as a multiple of sqrt(w h), after which a target that is seen
            again may be something else, until it is TRACKING; one that was LOST may be, too.
        claim_scale: Change of sqrt(w h) against its recent median above which such a target is UNCERTAIN for longer.
        claim_after: Good frames since its last jump until it is TRACKING, unless a recollection confirms it.
        trial_frames: Good frames after that for which it is on trial: the second peak gets a second look.
        second_look: Whether the second peak of a frame that is UNCERTAIN after such a jump, or on trial, gets a window
            of its own in the next one.
        look_back: Whether the last frame in which a target was seen for sure is kept, and some of those since. What it
            seems to have jumped to is followed back through them: what was beside it there is something else, and a
            claim of another size that finds it there counts at once. None: for a network whose crops make every box
            square; `sdstrack_s128` was found to lose boxes by bystanders.
        bystander_frames: Frames for which such a thing is remembered after that.
        reacquire: Whether to search the whole frame while LOST.
        tiles_per_frame: Windows searched per frame while LOST; bounds its cost.
        tile_scale: Side of such a window as a multiple of the usual search region.
        confirm_frames: Frames in a row that must show a re-acquired target before it counts, the last of them as high
            as `Thresholds.regain`.
    """

    enabled: bool = True
    lost_after: int = 8
    recover_after: int = 2
    believe_after: int = 12
    repaint_after: int = 90
    alter_after: int = 30
    growth: float = 1.2
    max_growth: float = 2.0
    max_jump: float = 1.5
    max_scale: float = 1.6
    max_shape: float = 1.6
    claim_jump: float = 0.35
    claim_scale: float = 1.25
    claim_after: int = 8
    trial_frames: int = 40
    second_look: bool = True
    look_back: bool | None = None
    bystander_frames: int = 60
    reacquire: bool = True
    tiles_per_frame: int = 1
    tile_scale: float = 1.5
    confirm_frames: int = 3

    def looks_back(self, square_boxes: bool) -> bool:
        """Whether the last frame that shows a target for sure is kept, for a network of this kind."""
        return self.enabled and (square_boxes if self.look_back is None else self.look_back)

    def __post_init__(self) -> None:
        for name in (
            "lost_after", "recover_after", "claim_after", "trial_frames", "bystander_frames", "repaint_after",
            "alter_after", "tiles_per_frame", "confirm_frames",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfidenceError(f"{name} is {getattr(self, name)}; expected at least 1")
        if self.believe_after < max(self.recover_after, self.confirm_frames):
            raise ConfidenceError(
                f"believe_after is {self.believe_after}; expected at least recover_after ({self.recover_after}) and "
                f"confirm_frames ({self.confirm_frames})"
            )
        for name in ("growth", "max_growth", "max_scale", "max_shape", "claim_scale", "tile_scale"):
            if getattr(self, name) < 1:
                raise ConfidenceError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("max_jump", "claim_jump"):
            if getattr(self, name) <= 0:
                raise ConfidenceError(f"{name} is {getattr(self, name)}; expected more than 0")
