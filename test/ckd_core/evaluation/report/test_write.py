from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest

from ckd_core.data.datasets import open_dataset
from ckd_core.evaluation.report.runs import ReportError, report_run
from ckd_core.evaluation.report.tables import summarize_record
from ckd_core.evaluation.report.write import write_report
from ckd_core.evaluation.running.conditions import parse_condition
from ckd_core.evaluation.running.inputs import open_inputs
from ckd_core.evaluation.running.plan import RunPlan
from ckd_core.evaluation.running.runner import run_benchmark
from ckd_core.evaluation.running.trackers import ModelSpec
from ckd_core.evaluation.scoring.annotations import read_truths
from ckd_core.evaluation.scoring.raw_results import read_results
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import GroundTruth, Track, score_benchmark
from testkit.browser import browse
from testkit.reliability.lengths import LONG
from testkit.small_scenes import TINY

if TYPE_CHECKING:
    from pathlib import Path

    from ckd_core.evaluation.running.runner import RunResult
    from ckd_core.evaluation.scoring.score import BenchmarkScore

SHORT = ["rgbd_kitchen7s_magazine", "rgbt_m3svd_clip_0111_1753", "rgbe_evbench_seq1"]


class Links(HTMLParser):
    """Everything that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href") and tag]


def fetched(page: str) -> list[str]:
    links = Links()
    links.feed(page)
    return [link for link in links.found if not link.startswith(("#", "data:"))]


def two_scores() -> list[BenchmarkScore]:
    truth = np.tile([10.0, 10, 20, 20], (30, 1))
    truths = [GroundTruth("s2", truth, attributes=("FM",)), GroundTruth("s10", truth), GroundTruth('<b>"&', truth)]
    scores = []
    for label, step in (("near", 0.3), ("far", 2.0)):
        drift = np.arange(30)[:, None] * np.array([step, 0, 0, 0])
        tracks = {t.name: Track(t.name, t.boxes + drift * (i + 1)) for i, t in enumerate(truths)}
        scores.append(score_benchmark(get_rule("lasher"), truths, tracks, label))
    return scores


def test_numbers_are_in_json_and_csv(tmp_path: Path) -> None:
    scores = two_scores()
    page = write_report(tmp_path, scores).read_text()
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["trackers"]["far"]["metrics"] == scores[1].metrics
    with (tmp_path / "sequences.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["sequence"] for row in rows] == ["s2", "s10", '<b>"&']
    assert float(rows[0]["near SR"]) == pytest.approx(scores[0].sequences[0].metrics["SR"], abs=1e-6)
    with (tmp_path / "attributes.csv").open() as stream:
        (attribute,) = csv.DictReader(stream)
    assert (attribute["attribute"], attribute["sequences"]) == ("FM", "1")
    with (tmp_path / "curves.csv").open() as stream:
        curves = list(csv.DictReader(stream))
    assert len(curves) == 21 + 51 + 51
    assert fetched(page) == []
    assert '<b>"&' not in page
    assert "&lt;b&gt;" in page


def test_empty_or_ambiguous_reports_are_refused(tmp_path: Path) -> None:
    first = two_scores()[0]
    with pytest.raises(ReportError, match="nothing to report"):
        write_report(tmp_path, [])
    with pytest.raises(ReportError, match="two evaluations have the same name"):
        write_report(tmp_path, [first, first])
    truth = GroundTruth("a", np.ones((3, 4)) * 9)
    other = score_benchmark(get_rule("folder"), [truth], {"a": Track("a", truth.boxes)}, "x")
    with pytest.raises(ReportError, match="these are of folder, lasher"):
        write_report(tmp_path, [first, other])


def test_tables_sort_in_a_browser(tmp_path: Path) -> None:
    page = write_report(tmp_path, two_scores())
    clicks = """<script>
    var heads=document.querySelectorAll('#sequences th');function names(){return Array.prototype.map.call(
    document.querySelectorAll('#sequences tbody tr'),function(r){return r.dataset.name;}).join('|');}
    var last=heads[heads.length-1];heads[0].click();var byName=names();
    last.click();var down=names();last.click();var up=names();
    document.title=[byName,down,up].join(' / ');</script></body>"""
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("</body>", clicks))
    title = re.search(r"<title>(.*?)</title>", browse(probe, tmp_path / "profile", "--dump-dom"), re.DOTALL)
    assert title is not None
    by_name, down, up = title.group(1).split(" / ")
    assert by_name.endswith("s2|s10")
    assert down.startswith("s2|")
    assert up.split("|") == down.split("|")[::-1]


def test_a_page_shows_a_run_with_a_missing_camera(scenes: Path, tmp_path: Path, tiny_weights: Path) -> None:
    dataset = open_dataset("folder", scenes).select(["a", "b", "c"])
    inputs, condition = open_inputs(dataset), parse_condition("switching=4")
    plan = RunPlan(inputs, ModelSpec(TINY, tiny_weights), tmp_path / "run", condition, device="cpu", threads=1)
    result = run_benchmark(plan)
    run = report_run(result)
    assert {moment.sequence for moment in run.moments} == {"a", "b", "c"}
    assert [moment.overlap for moment in run.moments] == sorted(moment.overlap for moment in run.moments)
    worst = run.moments[0]
    assert worst.overlap == min(np.nanmin(timeline.overlaps[1:]) for timeline in run.timelines)
    image = cv2.imdecode(np.frombuffer(worst.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    assert image.shape[1] == 300
    page = write_report(tmp_path / "run", [result.score], [run])
    text = page.read_text()
    assert fetched(text) == []
    for heading in ("Summary", "Curves", "Sequences", "Timelines", "Worst moments", "Latency", "Provenance"):
        assert f"<h2>{heading}" in text
    saved = json.loads((tmp_path / "run" / "report.json").read_text())["runs"][TINY]
    assert saved["latency_ms"]["p50"] > 0
    assert saved["sequences"]["a"]["frames_with_auxiliary"] < 12
    dom = browse(page, tmp_path / "profile", "--dump-dom")
    assert dom.count("<svg") == text.count("<svg") >= 7


@pytest.mark.shared
def test_published_results_on_one_page_in_a_browser(shared_data: Path, tmp_path: Path) -> None:
    rule = get_rule("lasher")
    root = shared_data / "results" / "lasher_test"
    truths = read_truths(root / "groundtruth.tar.gz", rule)
    names = [truth.name for truth in truths]
    scores = []
    for tracker in ("APFNet", "MTNet", "CAT", "mfDiMP"):
        results = read_results(root / f"{tracker}.tar.gz", names, rounded=True)
        scores.append(score_benchmark(rule, truths, results.tracks, tracker))
    page = write_report(tmp_path, scores, title="LasHeR")
    shot = tmp_path / "page.png"
    browse(page, tmp_path / "profile", f"--screenshot={shot}", "--window-size=1300,1400", "--hide-scrollbars")
    image = cv2.imread(str(shot))
    assert image is not None
    assert image.shape[:2] == (1400, 1300)
    paints = [tuple(int(c, 16) for c in (b, g, r)) for r, g, b in (("00", "72", "b2"), ("d5", "5e", "00"))]
    for paint in paints:
        assert (np.abs(image.astype(int) - paint).max(axis=2) < 12).sum() > 200, "a tracker's curve is not on the page"


@pytest.mark.shared
def test_every_real_sequence_on_one_page(shared_data: Path, tmp_path: Path) -> None:
    """A shipped network over all recorded sequences, with the page opened and its table sorted.

    Two processes track in the long form; the short form is over three sequences: of depth with absences, of thermal
    images, of events.
    """
    dataset = open_dataset("folder", shared_data / "sequences")
    dataset = dataset if LONG else dataset.select(SHORT)
    plan = RunPlan(
        open_inputs(dataset), ModelSpec("sdstrack_s128"), tmp_path / "run", device="cpu", workers=2 if LONG else 1
    )
    result = run_benchmark(plan)
    page = write_report(tmp_path / "run", [result.score], [report_run(result)])
    assert len(result.records) == (11 if LONG else 3)
    assert result.score.metrics["AUC"] > 0.25
    click = """<script>var heads=document.querySelectorAll('#sequences th');heads[heads.length-1].click();
    document.title=Array.prototype.map.call(document.querySelectorAll('#sequences tbody tr'),
    function(r){return r.dataset.name;}).join('|');</script></body>"""
    probe = tmp_path / "probe.html"
    probe.write_text(page.read_text().replace("</body>", click))
    dom = browse(probe, tmp_path / "profile", "--dump-dom")
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert title is not None
    by_auc = sorted(result.score.sequences, key=lambda item: -item.metrics["AUC"])
    assert title.group(1).split("|") == [item.name for item in by_auc]
    assert dom.count("<details") == dom.count("data:image/jpeg") == len(result.records)
    assert 'aria-sort="descending"' in dom
    latency = json.loads((tmp_path / "run" / "report.json").read_text())["runs"]["sdstrack_s128"]["latency_ms"]
    assert 0 < latency["p50"] <= latency["p99"]
    assert "false_tracking" in summary_of(result, "rgbd_kitchen7s_magazine")


def summary_of(result: RunResult, name: str) -> dict[str, float]:
    """Summary of a sequence in which the object is absent for a while."""
    summary = asdict(summarize_record(result.records[name], result.plan.inputs.sequences[name]))
    assert summary["absent"] == int(result.plan.inputs.sequences[name].absent.sum()) > 20
    return summary
