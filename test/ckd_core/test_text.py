"""Texts from outside are short and printable before anything shows them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckd_core.evaluation.report.table_files import markdown_table
from ckd_core.text import MAX_CHARACTERS, csv_cell, has_controls, markdown_cell, printable, shown


@given(st.text())
def test_control_characters_are_those_of_the_category(text: str) -> None:
    assert has_controls(text) == any(unicodedata.category(char) == "Cc" for char in text)


@pytest.mark.parametrize("text", ["", "rgb8", "/camera/color/image_raw", "Fußgänger 人", "a" * MAX_CHARACTERS])
def test_a_short_printable_text_stays_as_it_is(text: str) -> None:
    assert shown(text) == text


def test_terminal_escapes_and_line_breaks_are_escaped() -> None:
    assert shown("\x1b[2J\x1b]0;owned\x07rgb8\nfake log line") == r"\x1b[2J\x1b]0;owned\x07rgb8\nfake log line"
    assert shown("left\u202eright\u2028next\x9b") == r"left\u202eright\u2028next\x9b"


def test_a_long_text_keeps_its_ends_and_says_its_length() -> None:
    text = shown("begin" + "-" * 10_000_000 + "end")
    assert text.startswith("begin")
    assert text.endswith("end (10000008 characters)")


def test_what_is_not_a_text_is_shown_too() -> None:
    assert shown((1.0, 2.0)) == "(1.0, 2.0)"
    assert len(shown([0.0] * 500_000)) < 150


@given(st.text() | st.text(alphabet="\x00\x1b\n\u202e\ud800x", min_size=80), st.integers(4, 400))
def test_every_text_becomes_one_short_printable_line(text: str, limit: int) -> None:
    line = shown(text, limit)
    assert line.isprintable()
    assert len(line) <= limit + 40
    line.encode()


@pytest.mark.parametrize("name", ["=cmd()", "+1+1", "@sum(a)", "-2+3", "a|b", "a\nb\x1b[2J", "x" * 100_000])
def test_cells_are_printable_and_no_formulas(name: str) -> None:
    cell = csv_cell(name)
    assert cell.isprintable()
    assert cell[0] not in "=+@-"
    assert len(cell) < 1100
    assert markdown_table(["name"], [[name]]).count("\n") == 3
    assert markdown_cell(name).replace(r"\|", "").count("|") == 0


@pytest.mark.parametrize("text", ["-0.5", "-", "", "1e-3", "good", "+3", "nan"])
def test_numbers_and_plain_names_stay_as_they_are_in_cells(text: str) -> None:
    assert csv_cell(text) == markdown_cell(text) == text


def test_a_text_for_the_terminal_keeps_its_lines_and_nothing_else_that_does_not_print() -> None:
    text = printable("2 failed:\n  a: \x1b[2J\x1b]0;owned\x07\r\n  b: " + "x" * 1_000_000)
    lines = text.split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    assert len(text) < 5000
    assert printable("\n" * 100_000).count("\n") <= 1001
