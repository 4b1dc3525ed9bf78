"""What a jump back in time does to the target, in the node and for recordings alike."""

from __future__ import annotations

# A recording that starts again comes back to where its start box was first used, less the images that confirm its time.
LOOP_TOLERANCE_NS = 1_000_000_000


def after_jump(seconds: float, stamp_ns: int, start_box: str, used_ns: int | None) -> tuple[str, bool]:
    """Decide whether the box of the start serves again; the target is forgotten in any case.

    Only a recording that has started again is back where the box belongs. Anywhere else that box is an old one: by now
    another object may be there.

    Args:
        seconds: by how much time went back.
        stamp_ns: the first stamp after the jump.
        start_box: what the box is called; '' where there is none.
        used_ns: stamp of the frame on which it was first used; None before that.

    Returns:
        What happened, in words, and whether the box starts the target again.

    """
    text = f"jump back in time by {seconds:.2f} s: target forgotten; "
    if not start_box:
        return f"{text}choose a target again", False
    if used_ns is None or stamp_ns <= used_ns + LOOP_TOLERANCE_NS:
        return f"{text}back before {start_box} was first used, so that box starts the target again", True
    return (
        f"{text}{start_box} is older than the time after the jump and does not start one; choose a target again",
        False,
    )
