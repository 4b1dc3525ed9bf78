from __future__ import annotations

import copy

from ckd_core.errors import TrackingError
from ckd_core.models.published.keys import KeyReport, UnfitKeysError


def test_a_message_is_one_short_printable_line_whatever_goes_into_it() -> None:
    text = str(TrackingError("a\x1b[2J of\nerror: forged" + "c" * 10_000_000))
    assert text.startswith(r"a\x1b[2J of\nerror: forgedccc")
    assert text.isprintable()
    assert len(text) < 2100


def test_lines_that_are_given_one_by_one_stay_and_no_text_adds_one() -> None:
    error = TrackingError("two sequences failed:", "  a: no images", "  b\nc: forged")
    assert str(error) == "two sequences failed:\n  a: no images\n  b\\nc: forged"
    assert str(copy.copy(error)) == str(error)


def test_an_error_without_a_text_and_one_with_more_than_a_text() -> None:
    assert str(TrackingError()) == ""
    report = KeyReport((), ("a",), ())
    assert (str(UnfitKeysError("unfit", report)), UnfitKeysError("unfit", report).report) == ("unfit", report)
