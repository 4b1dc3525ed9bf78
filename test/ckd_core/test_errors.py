from __future__ import annotations

from ckd_core.errors import TrackingError


def test_a_message_is_printable_whatever_goes_into_it() -> None:
    error = TrackingError("a\x1b[2J of\nb" + "c" * 10_000_000)
    first, second = str(error).split("\n")
    assert first == r"a\x1b[2J of"
    assert second.isprintable()
    assert len(second) < 2100


def test_what_is_no_text_stays_as_it_is() -> None:
    assert TrackingError(2, b"x").args == (2, b"x")
    assert str(TrackingError()) == ""
