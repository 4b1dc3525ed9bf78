"""What each benchmark does around the metrics: rounding, absences, thresholds, averaging. One row per benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from ckd_core.data.layouts import DatasetLayout, get_layout
from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.metrics import NORMALIZED_THRESHOLDS, PRECISION_THRESHOLDS, SUCCESS_THRESHOLDS

if TYPE_CHECKING:
    from numpy.typing import NDArray


class RuleError(TrackingError):
    """A benchmark that is not described here."""


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkRule:
    """One benchmark's protocol.

    Attributes:
        name: For the command line.
        title: For people.
        source: Where the rule is from, and whether it was checked against published numbers.
        precision_name: What the benchmark calls its precision.
        success_name: What the benchmark calls its success AUC.
        normalized_name: What the benchmark calls its normalised precision; None = it has none.
        precision_px: Distance at which precision is reported.
        thresholds: Distances of the precision curve.
        strict_precision: A frame counts when its error is < (not <=) the threshold.
        auc: Success is the mean over the thresholds, or the trapezoid under the curve.
        weighting: The mean is over sequences, or over the frames of all sequences.
        two_truths: The better of the two modalities' annotations counts in every frame.
        round_results: Result boxes are rounded to integers (half to even).
        round_truth: Annotated boxes are rounded likewise.
        single_precision: Errors are computed in float32, which decides ties at a threshold (0.0004 of GTOT's numbers).
        last_pixel: Whether boxes end at x + w - 1, which decides ties where boxes have decimals: "no", in
            the "overlap" alone, or in the "center", too.
        first_is_truth: The first result box is replaced by the annotation.
        repeat_invalid: Whether a result box without area is replaced by the one before: "never", "from_truth" (after
            the first was replaced), or "from_results" (before that; nan boxes too, as in the LaSOT toolkit).
        absent: What a frame without a positive annotation is: "hit_and_miss" (error -1: precision hit, success miss;
            also for x or y of 0), "excluded", "raw" (compared unchanged), or "removed" (no hit where the object is
            flagged absent, shares of all frames all the same; others as "hit_and_miss").
        skip_empty: A sequence whose curve is zero everywhere is left out of that curve's mean.
        shorter: Results with fewer rows than the annotation are an "error", or start late ("late_start": the missing
            rows are the leading absent frames).
        longer: Results with more rows are an "error", or surplus rows at the end are ignored ("cut").
        long_term: Precision, recall and F over the reported confidence are computed too.
    """

    name: str
    title: str
    source: str
    precision_name: str = "PR"
    success_name: str = "SR"
    normalized_name: str | None = "NPR"
    precision_px: float = 20.0
    thresholds: NDArray[np.float64] = field(default_factory=lambda: PRECISION_THRESHOLDS)
    strict_precision: bool = False
    auc: Literal["mean", "trapezoid"] = "mean"
    weighting: Literal["sequence", "frame"] = "sequence"
    two_truths: bool = False
    round_results: bool = False
    round_truth: bool = False
    single_precision: bool = False
    last_pixel: Literal["no", "overlap", "center"] = "no"
    first_is_truth: bool = True
    repeat_invalid: Literal["never", "from_truth", "from_results"] = "never"
    absent: Literal["hit_and_miss", "excluded", "raw", "removed"] = "excluded"
    skip_empty: bool = False
    shorter: Literal["error", "late_start"] = "error"
    longer: Literal["error", "cut"] = "error"
    long_term: bool = False

    @property
    def layout(self) -> DatasetLayout:
        """Layout of the benchmark's images and annotations."""
        return get_layout(self.name)

    @property
    def normalized_thresholds(self) -> NDArray[np.float64]:
        """Distances of the normalised precision curve, in target sizes."""
        return NORMALIZED_THRESHOLDS

    @property
    def success_thresholds(self) -> NDArray[np.float64]:
        """Overlaps of the success curve."""
        return SUCCESS_THRESHOLDS


_CHECKED = "checked against published numbers"
_UNVERIFIED = "not checked against published numbers"

_RULES = (
    BenchmarkRule(
        name="lasher",
        title="LasHeR",
        source=f"LasHeR toolkit as in the package rgbt 1.0.1; {_CHECKED}",
        round_results=True,
        single_precision=True,
        round_truth=True,
        repeat_invalid="from_truth",
        absent="hit_and_miss",
        longer="cut",
    ),
    BenchmarkRule(
        name="rgbt234",
        title="RGBT234",
        source="package rgbt 1.0.1 (checked against it on random boxes)",
        precision_name="MPR",
        success_name="MSR",
        normalized_name=None,
        two_truths=True,
        round_results=True,
        single_precision=True,
        first_is_truth=False,
        absent="raw",
    ),
    BenchmarkRule(
        name="rgbt210",
        title="RGBT210",
        source="package rgbt 1.0.1 (checked against it on random boxes)",
        normalized_name=None,
        round_results=True,
        single_precision=True,
        absent="raw",
    ),
    BenchmarkRule(
        name="gtot",
        title="GTOT",
        source=f"GTOT toolkit as in the package rgbt 1.0.1 (RGBT_start); {_CHECKED}",
        precision_name="MPR",
        success_name="MSR",
        normalized_name=None,
        precision_px=5.0,
        thresholds=np.linspace(0, 25, 51),
        strict_precision=True,
        auc="trapezoid",
        weighting="frame",
        two_truths=True,
        round_results=True,
        single_precision=True,
        first_is_truth=False,
        absent="raw",
    ),
    BenchmarkRule(
        name="vtuav",
        title="VTUAV",
        source="VTUAV's MATLAB toolkit of 2022 (checked against a port of it on random boxes)",
        precision_name="MPR",
        success_name="MSR",
        normalized_name=None,
        two_truths=True,
        last_pixel="overlap",
        first_is_truth=False,
        absent="raw",
        longer="cut",
    ),
    BenchmarkRule(
        name="visevent",
        title="VisEvent",
        source="VisEvent's MATLAB toolkit of 2021-08 (checked against a port of it on random boxes)",
        last_pixel="center",
        repeat_invalid="from_results",
        absent="removed",
        skip_empty=True,
        shorter="late_start",
        longer="cut",
    ),
    BenchmarkRule(
        name="depthtrack",
        title="DepthTrack",
        source="VOT long-term measures (checked against vot-toolkit); AUC and precision are extras",
        long_term=True,
    ),
    BenchmarkRule(
        name="otb",
        title="OTB-50/100",
        source=f"OTB toolkit: one-pass evaluation; {_UNVERIFIED}",
        normalized_name=None,
        repeat_invalid="from_truth",
        absent="hit_and_miss",
        longer="cut",
    ),
    BenchmarkRule(
        name="got10k",
        title="GOT-10k",
        source=f"success AUC and precision over frames with the object; {_UNVERIFIED}",
        repeat_invalid="from_truth",
    ),
    BenchmarkRule(
        name="folder",
        title="Folders in the plain layout",
        source="success AUC and precision at 20 px over annotated frames with the object",
        precision_name="PR",
        success_name="AUC",
    ),
)
RULES = {rule.name: rule for rule in _RULES}


def get_rule(name: str) -> BenchmarkRule:
    """Look a benchmark up by name.

    Raises:
        RuleError: An unknown name.
    """
    try:
        return RULES[name.lower()]
    except KeyError:
        raise RuleError(f"unknown benchmark {name!r}; expected one of {', '.join(RULES)}") from None
