"""Scoring 245 LasHeR sequences for four trackers, files and all, beside the package rgbt on the same files.

Uses the published raw results (SDSTRACK_SHARED); without them, synthetic ones of the same size.
"""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.harness import interleaved, rows_against
from ckd_core.evaluation.scoring.annotations import read_truths
from ckd_core.evaluation.scoring.raw_results import read_results
from ckd_core.evaluation.scoring.rules import get_rule
from ckd_core.evaluation.scoring.score import score_benchmark

if TYPE_CHECKING:
    from benchmarks.harness import Row

TITLE = "Scoring LasHeR: reading and scoring 245 sequences x 4 trackers"
TRACKERS = ("APFNet", "MTNet", "CAT", "mfDiMP")
PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "data" / "results" / "lasher_test"
SEQUENCES, FRAMES = 245, 900


def lay_out(folder: Path) -> str:
    """Put `groundtruth/`, one folder per tracker and `names.txt` into a folder; returns where the boxes come from."""
    if PUBLISHED.is_dir():
        for name in ("groundtruth", *TRACKERS):
            with tarfile.open(PUBLISHED / f"{name}.tar.gz") as bundle:
                bundle.extractall(folder, filter="data")
        names = sorted(path.stem for path in (folder / "groundtruth").glob("*.txt"))
        (folder / "names.txt").write_text("\n".join(names) + "\n")
        return "published raw results"
    rng = np.random.default_rng(0)
    names = [f"sequence{index:03d}" for index in range(SEQUENCES)]
    for name in ("groundtruth", *TRACKERS):
        (folder / name).mkdir()
        for sequence in names:
            boxes = rng.integers(10, 200, (FRAMES, 4))
            np.savetxt(folder / name / f"{sequence}.txt", boxes, fmt="%d", delimiter=",")
    (folder / "names.txt").write_text("\n".join(names) + "\n")
    return "synthetic boxes"


def ours(folder: Path) -> dict[str, float]:
    """Success rates by this package."""
    rule = get_rule("lasher")
    truths = read_truths(folder / "groundtruth", rule)
    names = [truth.name for truth in truths]
    rates = {}
    for tracker in TRACKERS:
        results = read_results(folder / tracker, names, rounded=rule.round_results)
        rates[tracker] = score_benchmark(rule, truths, results.tracks, tracker).metrics["SR"]
    return rates


def theirs(folder: Path) -> dict[str, float]:
    """Success rates by the package rgbt, which computes the same three numbers."""
    from rgbt.dataset.basedataset import BaseRGBTDataet
    from rgbt.metrics import NPR, PR_LasHeR, SR_LasHeR

    names = (folder / "names.txt").read_text().split()
    dataset = BaseRGBTDataet(str(folder / "groundtruth"), names, "ltwh")
    rates = {}
    for tracker in TRACKERS:
        results = dataset(tracker, str(folder / tracker))
        PR_LasHeR()(dataset, results, names)
        NPR()(dataset, results, names)
        rates[tracker] = float(SR_LasHeR()(dataset, results, names)[0])
    return rates


def run(quick: bool) -> list[Row]:
    """Milliseconds of both; ratio = rgbt / this package."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = lay_out(folder)
        difference = max(abs(a - b) for a, b in zip(ours(folder).values(), theirs(folder).values(), strict=True))
        rounds = 1 if quick else 3
        timings = interleaved({"rgbt": lambda: theirs(folder), "sdstrack": lambda: ours(folder)}, rounds, warmup=0)
    return [row | {"data": source, "largest_difference": f"{difference:.1e}"} for row in rows_against(timings, "rgbt")]
