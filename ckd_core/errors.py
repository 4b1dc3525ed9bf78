"""The base class of all errors that this package raises on purpose."""

from __future__ import annotations

from ckd_core.text import printable


class TrackingError(Exception):
    """Base of every error of ckd_core and sdstrack_ros; each module derives its own from it.

    A message states what was wrong, the offending value, and what would be right. Texts from outside go into it by
    `ckd_core.text.shown`; what slips through, the path of a file or a library's own words, is at least printable.
    """

    def __init__(self, *parts: object) -> None:
        """Keep the message, its lines short and printable."""
        super().__init__(*(printable(part) if isinstance(part, str) else part for part in parts))
