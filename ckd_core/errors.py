"""The base class of all errors that this package raises on purpose."""

from __future__ import annotations

from ckd_core.text import MAX_LINE, shown


class TrackingError(Exception):
    """Base of every error of ckd_core and sdstrack_ros; each module derives its own from it.

    A message states what was wrong, the offending value, and what would be right. Texts from outside go into it by
    `ckd_core.text.shown`; what slips through, the path of a file or a library's own words, is at least printable.
    """

    def __init__(self, *lines: object) -> None:
        """Keep the message: the lines are given one by one, so that no text from outside adds one to them."""
        super().__init__(*(shown(line, MAX_LINE) for line in lines))

    def __str__(self) -> str:
        """The lines of the message."""
        return "\n".join(self.args)
