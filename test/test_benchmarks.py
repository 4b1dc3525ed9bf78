from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import doubt
from benchmarks.__main__ import part_modules
from benchmarks.gpu import runner
from benchmarks.gpu.cases import NETWORKS, PUBLISHED, Case, cases
from benchmarks.gpu.measure import Bench
from benchmarks.live.hotspots import rows_of

ROOT = Path(__file__).parents[1]
TINY = "sdstrack_tiny_test"
# A machine with a GPU need not have more than PyTorch, timm (which brings PyYAML), OpenCV and ONNX Runtime.
ABSENT = """
import sys

NAMES = {"rclpy", "rosbags", "rich", "typer", "openvino", "matplotlib", "jinja2", "pytest"}

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in NAMES:
            raise ImportError(f"{name} is absent here")

sys.meta_path.insert(0, Absent())
"""

SAMPLES = """\
main (/x/node/tracker_node.py:1);spin (/x/rclpy/executors.py:9) 30
main (/x/node/tracker_node.py:1);update (/x/tracking/multi.py:5);_run (/y/engines/exported.py:7) 60
main (/x/node/tracker_node.py:1);update (/x/tracking/multi.py:5);update (/x/tracking/multi.py:5) 10
"""


def test_hotspots_count_own_time_and_time_with_callees() -> None:
    rows = {row["name"]: (row["own"], row["with_callees"]) for row in rows_of(SAMPLES)}
    assert list(rows) == [
        "_run (engines/exported.py)", "spin (rclpy/executors.py)", "update (tracking/multi.py)",
    ]  # fmt: skip
    assert rows["_run (engines/exported.py)"] == ("60.0 %", "60.0 %")
    assert rows["update (tracking/multi.py)"] == ("10.0 %", "70.0 %"), "a function that calls itself counts once"


def test_the_gpu_bench_runs_on_the_cpu_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch) -> None:
    """The whole script, as on a bare machine: two processes that import PyTorch, so it takes some seconds."""
    (tmp_path / "sitecustomize.py").write_text(ABSENT)
    page, folder = tmp_path / "benchmarks.md", tmp_path / "out"
    out = folder / "gpu.json"
    folder.mkdir()
    shutil.copy(ROOT / "docs" / "benchmarks.md", page)
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--networks", TINY]
    done = subprocess.run(
        [*command, "--out", str(folder), "--page", str(page)], cwd=ROOT, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    expected = [case.key for case in cases("cpu", (TINY,), quick=True)]
    assert list(rows) == expected
    for row in rows.values():
        assert row["iou_median"] > 0.9, row  # random weights: a grey level moves some of their peaks
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert row["gflop"] > 0
    for table in (page, folder / "gpu.md"):
        assert table.read_text().count(f"| {TINY} | torch/fp32 |") == len(expected)
        assert str(table) in done.stdout.splitlines()[0], "says where"

    monkeypatch.setattr(runner, "Worker", lambda *_: pytest.fail("what is done is not measured again"))
    again = runner.measure_all("cpu", quick=True, minutes=0, out=out, networks=[TINY])
    assert [row["p50_ms"] for row in again] == [row["p50_ms"] for row in rows.values()]
    kept = json.loads(out.read_text())
    del kept["rows"][expected[1]]
    out.write_text(json.dumps(kept))
    stopped = runner.measure_all("cpu", quick=True, minutes=0, out=out, networks=[TINY])
    assert [row["note"] for row in stopped] == ["", runner.TO_COME]
    kept["machine"]["device"] = "another"
    out.write_text(json.dumps(kept))
    elsewhere = runner.measure_all("cpu", quick=True, minutes=0, out=out, networks=[TINY])
    assert all(row["note"] == runner.TO_COME for row in elsewhere), "another machine's rows are no evidence"


def test_all_rows_are_kept_whenever_one_was_measured(tmp_path: Path) -> None:
    kept: list[list[str]] = []
    networks = [TINY, "no such network"]
    runner.measure_all(
        "cpu",
        True,
        5,
        tmp_path / "gpu.json",
        networks,
        keep=lambda rows: kept.append([str(row["note"]) for row in rows]),
    )
    assert kept[0] == ["", *[runner.TO_COME] * 3]
    assert kept[1] == ["", "", *[runner.TO_COME] * 2]
    assert kept[-1][:2] == ["", ""]
    assert all("the process ended" in note for note in kept[-1][2:])


def test_a_row_keeps_its_times_when_the_profiler_fails(monkeypatch) -> None:
    def refused(*_: object) -> dict[str, object]:
        raise RuntimeError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES\nand more")

    bench = Bench(TINY, "cpu", 0.05)
    monkeypatch.setattr(bench, "_on_gpu", refused)
    row = bench.row(Case(TINY, "torch/fp32", targets=2))
    assert row["p50_ms"] > 0
    assert row["roofline"].endswith(" %")
    assert row["note"] == "no profile: RuntimeError: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES"


def test_a_stream_that_fails_is_the_reason_of_its_row() -> None:
    def failing() -> None:
        raise ValueError("the second one fails")

    with pytest.raises(ValueError, match="the second one fails"):
        Bench(TINY, "cpu", 0.0).times([lambda: None, failing])


def test_a_row_that_fails_has_a_reason_and_one_that_hangs_is_ended() -> None:
    worker = runner.Worker(TINY, "cpu", 0.1)
    try:
        failed = worker.measure(Case(TINY, "onnx/int8"), 120.0)
        assert failed["note"].startswith("EngineError: unknown engine 'onnx/int8'")
        assert worker.alive
        assert worker.measure(Case(TINY, "torch/fp32"), 0.0)["note"] == "ended after 0 s"
        assert not worker.alive
    finally:
        worker.end()


def test_the_gpu_bench_names_every_network_and_engine_once() -> None:
    keys = [case.key for case in cases("cuda", NETWORKS, quick=False)]
    assert len(keys) == len(set(keys))
    for network in NETWORKS:
        engines = {case.engine for case in cases("cuda", (network,), quick=False)}
        assert {
            "torch/fp32",
            "compile/fp16",
            "cudagraph/fp32",
            "cudagraph/bf16",
            "cudagraph/fp16",
            "onnx/fp32",
        } < engines
        assert "tensorrt/fp16" in engines


def test_rows_say_how_much_faster_than_the_published_order_they_are(tmp_path: Path) -> None:
    times = {
        Case("sdstrack_b256", PUBLISHED): 30.0,
        Case("sdstrack_b256", "cudagraph/fp16"): 2.0,
        Case("sdstrack_b256", "cudagraph/fp16", "device", 8): 12.0,
        Case("sdstrack_m256", "cudagraph/fp16"): 1.0,
    }
    out = tmp_path / "gpu.json"
    rows = {case.key: {"p50_ms": time} for case, time in times.items()}
    out.write_text(json.dumps({"machine": runner.identity("cuda", quick=False), "rows": rows}))
    done = runner.measure_all("cuda", False, 0, out, ["sdstrack_b256", "sdstrack_m256"])
    faster = {(row["network"], row["engine"], row["targets"]): row["faster"] for row in done if row["p50_ms"]}
    assert faster == {
        ("sdstrack_b256", PUBLISHED, 1): 1.0,
        ("sdstrack_b256", "cudagraph/fp16", 1): 15.0,
        ("sdstrack_b256", "cudagraph/fp16", 8): 20.0,
        ("sdstrack_m256", "cudagraph/fp16", 1): "",
    }


def test_every_part_is_found_by_its_name_whichever_room_it_is_in() -> None:
    modules = part_modules()
    assert modules["engines"] == "benchmarks.engines"
    assert modules["executor"] == "benchmarks.live.executor"
    for module in modules.values():
        path = ROOT / module.replace(".", "/")
        text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
        assert "\nTITLE = " in text, module
        assert "\ndef run(quick: bool) -> list[Row]:\n" in text, module


def test_a_frame_in_doubt_asks_the_network_once_more_for_each_question() -> None:
    assert {row["name"]: row["calls"] for row in doubt.run(quick=True)} == {
        "as foreseen": 1,
        "a second look": 2,
        "followed back through one frame": 2,
        "a second look, and followed back": 3,
        "followed back as far as ever": 10,
        "a recollection": 3,
    }
