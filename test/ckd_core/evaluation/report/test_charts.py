from __future__ import annotations

from xml.etree import ElementTree as ET

import numpy as np

from ckd_core.evaluation.report.charts import STATE_COLORS, Line, histogram, line_chart, timeline_chart

TIMES = np.arange(4) / 10
LINES = [Line('a <b> & "c"', TIMES, np.array([0.1, 0.9, np.nan, 0.4]), "#0072b2")]


def drawings() -> list[str]:
    presence = np.array([[True, True], [True, False], [False, True], [True, True]])
    states = ["TRACKING", "LOST", "LOST", "UNCERTAIN"]
    return [
        line_chart(LINES, "overlap <x>", "success", marker=0.2),
        timeline_chart(TIMES, LINES, states, presence),
        histogram(np.linspace(1, 30, 40), "milliseconds", "#d55e00"),
    ]


def texts(drawing: str, tag: str) -> list[str]:
    return ["".join(item.itertext()).strip() for item in ET.fromstring(drawing).iter(tag)]


def test_the_same_numbers_give_the_same_text_every_time() -> None:
    assert drawings() == drawings()


def test_a_drawing_acts_on_nothing_beside_it() -> None:
    for drawing in drawings():
        assert drawing.startswith("<svg viewBox=")
        for reference in (" id=", "url(", "href", "<style", "<defs", "xmlns", "<metadata"):
            assert reference not in drawing


def test_words_are_escaped_and_a_curve_says_its_name_at_the_pointer() -> None:
    curves, timeline, bars = drawings()
    assert texts(curves, "title") == texts(timeline, "title") == ['a <b> & "c"']
    assert texts(bars, "title") == []
    assert {"overlap <x>", "success"} <= set(texts(curves, "text"))
    assert ET.fromstring(curves).get("aria-label") == "success over overlap <x>"
    assert {"state", "colour", "aux", "time in s"} <= set(texts(timeline, "text"))


def test_a_timeline_shows_every_state_and_the_last_frame() -> None:
    timeline = drawings()[1]
    fills = [item.get("style") or "" for item in ET.fromstring(timeline).iter("path")]
    for color in STATE_COLORS.values():
        assert sum(f"fill: {color}" in style for style in fills) == 1
    assert sum("fill: #56708a" in style for style in fills) == 4, "colour and aux: two runs each"
