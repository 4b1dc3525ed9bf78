"""The base class of all errors that this package raises on purpose."""


class TrackingError(Exception):
    """Base of every error of ckd_core and sdstrack_ros; each module derives its own from it.

    A message states what was wrong, the offending value, and what would be right.
    """
