"""Boxes and annotations in, one benchmark's numbers out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from ckd_core.boxes import is_present
from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.metrics import (
    LongTermScore,
    center_error,
    count_above,
    count_at_most,
    long_term_score,
    long_term_track,
    normalized_center_error,
    overlap,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from ckd_core.evaluation.scoring.rules import BenchmarkRule

    Floats = NDArray[np.float64]
    Flags = NDArray[np.bool_]


class ScoreError(TrackingError):
    """Results or annotations that a benchmark's rule does not allow."""


@dataclass(frozen=True, slots=True, eq=False)
class GroundTruth:
    """Annotation of one sequence, as the benchmark's own numbers.

    Attributes:
        name: Name of the sequence.
        boxes: [N, 4] xywh; nan or without area = absent.
        aux_boxes: [N, 4] of the auxiliary images, or None.
        labelled: [N] bool, False where there is no annotation; None = all frames have one.
        attributes: Challenge attributes.
        size: (width, height) of the images if known.
        flagged: Whether a file of flags says where the object is absent.
    """

    name: str
    boxes: Floats
    aux_boxes: Floats | None = None
    labelled: Flags | None = None
    attributes: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    flagged: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """Result of one tracker on one sequence: boxes [N, 4] xywh, confidence [N] or None; nan = nothing reported."""

    name: str
    boxes: Floats
    confidence: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SequenceScore:
    """One sequence: shares of `frames` [T] over the thresholds, and the errors per frame [N] (nan = not counted)."""

    name: str
    frames: int
    precision_curve: Floats
    normalized_curve: Floats
    success_curve: Floats
    errors: Floats
    overlaps: Floats
    attributes: tuple[str, ...]
    metrics: dict[str, float]


@dataclass(frozen=True, slots=True, eq=False)
class BenchmarkScore:
    """One tracker on one benchmark.

    Attributes:
        tracker: Name of the tracker.
        benchmark: Name of the rule.
        metrics: The benchmark's numbers by its own names, 0..1.
        sequences: The scored sequences.
        precision_curve: [T], mean over the sequences; so are the other curves.
        normalized_curve: [T].
        success_curve: [T].
        per_attribute: Metrics over the sequences of each challenge attribute.
        missing: Sequences without results.
        notes: What was repaired under the benchmark's rule, in words.
        long_term: Measures over the confidence, where the rule has them.
    """

    tracker: str
    benchmark: str
    metrics: dict[str, float]
    sequences: tuple[SequenceScore, ...]
    precision_curve: Floats
    normalized_curve: Floats
    success_curve: Floats
    per_attribute: dict[str, dict[str, float]]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    long_term: LongTermScore | None = None


def _fit_length(rule: BenchmarkRule, truth: GroundTruth, track: Track) -> tuple[GroundTruth, Track, str | None]:
    """Equal lengths by the benchmark's rule, with a note on what was changed."""
    have, want = len(track.boxes), len(truth.boxes)
    if have == want:
        return truth, track, None
    counts = f"{track.name}: {have} result rows for {want} annotated frames"
    every = rule.layout.every
    if every > 1:  # a row per frame, or per annotated frame; more are a benchmark's own to judge
        sampled = -(-have // every)
        if sampled < want or (sampled > want and rule.longer == "error"):
            raise ScoreError(f"{counts}; {rule.title} needs one row for every frame, or for every {every}th")
        confidence = None if track.confidence is None else track.confidence[::every][:want]
        surplus = f"{counts}; every {every}th counts, and the surplus is ignored" if sampled > want else None
        return truth, Track(track.name, track.boxes[::every][:want], confidence), surplus
    if have > want and rule.longer == "cut":
        confidence = None if track.confidence is None else track.confidence[:want]
        return truth, Track(track.name, track.boxes[:want], confidence), f"{counts}; the surplus is ignored"
    if have < want and rule.shorter == "late_start":
        present = is_present(truth.boxes)
        leading = int(np.argmax(present)) if present.any() else want
        if leading == want - have:
            labelled = None if truth.labelled is None else truth.labelled[leading:]
            aux = None if truth.aux_boxes is None else truth.aux_boxes[leading:]
            late = replace(truth, boxes=truth.boxes[leading:], aux_boxes=aux, labelled=labelled)
            return late, track, f"{counts}; it starts at the first frame with the object"
        raise ScoreError(
            f"{counts}; {rule.title} allows {want} rows or, from the first present frame, {want - leading}"
        )
    raise ScoreError(f"{counts}; {rule.title} needs one row for every frame")


def require_scorable(rule: BenchmarkRule, truth: GroundTruth) -> None:
    """Check that an annotation can be scored at all, whatever a tracker reports.

    Raises:
        ScoreError: Less than two frames, no frame that counts, or something that the benchmark's rule does not allow.

    """
    if len(truth.boxes) < 2:
        raise ScoreError(f"{truth.name} has {len(truth.boxes)} frame; scoring needs at least one after the first")
    unannotated = np.isnan(truth.boxes).any(axis=1)
    if rule.absent == "raw" and unannotated.any():
        raise ScoreError(
            f"{truth.name}: annotation row {int(np.argmax(unannotated)) + 1} is nan; {rule.title} has no absent frames"
        )
    if rule.two_truths:
        if truth.aux_boxes is None:
            raise ScoreError(f"{truth.name} has one annotation; {rule.title} compares with both modalities'")
        if len(truth.aux_boxes) != len(truth.boxes):
            raise ScoreError(
                f"{truth.name} has {len(truth.boxes)} and {len(truth.aux_boxes)} annotated frames in its modalities; "
                "must be equal"
            )
    if not _counted_frames(rule, truth).any():
        raise ScoreError(f"{truth.name} has no annotated frame with the object; leave it out")


def _counted_frames(rule: BenchmarkRule, truth: GroundTruth) -> Flags:
    """[N] bool: frames that count."""
    counted = np.ones(len(truth.boxes), dtype=np.bool_) if truth.labelled is None else truth.labelled
    if rule.absent == "removed":
        return counted & ~np.isnan(truth.boxes).any(axis=1)
    return counted & is_present(_annotated_boxes(rule, truth)) if rule.absent == "excluded" else counted


def _annotated_boxes(rule: BenchmarkRule, truth: GroundTruth) -> Floats:
    return np.round(truth.boxes) if rule.round_truth else truth.boxes


def _prepare(rule: BenchmarkRule, truth: GroundTruth, track: Track) -> tuple[Floats, Floats]:
    """Result and annotation boxes [N, 4] as the benchmark's toolkit compares them."""
    gt = _annotated_boxes(rule, truth)
    boxes = np.round(track.boxes) if rule.round_results else track.boxes.copy()
    if rule.repeat_invalid == "from_results":
        boxes = _repeat(boxes, is_present(boxes))
    if rule.first_is_truth:
        boxes[0] = gt[0]
    if rule.repeat_invalid == "from_truth":
        boxes = _repeat(boxes, np.asarray((boxes[:, 2:] > 0).all(axis=1) | np.isnan(boxes).any(axis=1)))
    return boxes, gt


def _repeat(boxes: Floats, valid: Flags) -> Floats:
    """Boxes [N, 4] with those that are not valid replaced by the last valid one before, or the first."""
    valid[:1] = True
    return boxes[np.maximum.accumulate(np.where(valid, np.arange(len(boxes)), 0))]


def score_sequence(rule: BenchmarkRule, truth: GroundTruth, track: Track) -> tuple[SequenceScore, str | None]:
    """Score one sequence; the second value says what the rule repaired, or is None.

    Raises:
        ScoreError: An annotation that cannot be scored, a number of rows that the rule does not allow, or boxes that
            are not finite where the benchmark has no rule for them.
    """
    require_scorable(rule, truth)
    truth, track, fitted = _fit_length(rule, truth, track)
    notes = [fitted] if fitted else []
    if rule.absent == "removed" and not truth.flagged:
        notes.append(f"{track.name}: no absence flags beside the annotation; the object counts as present throughout")
    gone = ~is_present(truth.boxes)
    if rule.two_truths and truth.aux_boxes is not None:
        gone &= ~is_present(truth.aux_boxes)
        if gone.any():
            notes.append(
                f"{track.name}: {int(gone.sum())} of {len(gone)} annotated frames are without the object in both "
                f"cameras; {rule.title} counts them, as misses of the success"
            )
    unknown = np.isnan(track.boxes).any(axis=1)
    broken = ~np.isfinite(track.boxes).all(axis=1)
    if rule.repeat_invalid == "from_results":
        broken &= ~unknown
        if unknown.any():
            notes.append(f"{track.name}: {int(unknown.sum())} result boxes are nan; each repeats the one before")
    if broken.any() and not rule.long_term:
        first = int(np.flatnonzero(broken)[0])
        raise ScoreError(
            f"{track.name}: {int(broken.sum())} result boxes are not finite, first in row {first + 1}: "
            f"{track.boxes[first].tolist()}; {rule.title} has no rule for them"
        )
    boxes, gt = _prepare(rule, truth, track)
    kind = np.float32 if rule.single_precision else np.float64
    boxes, gt = boxes.astype(kind), gt.astype(kind)
    errors, overlaps = _compared(rule, boxes, gt)
    if rule.two_truths and truth.aux_boxes is not None:
        aux_errors, aux_overlaps = _compared(rule, boxes, truth.aux_boxes.astype(kind))
        errors, overlaps = np.fmin(errors, aux_errors), np.fmax(overlaps, aux_overlaps)
    normalized = normalized_center_error(boxes, gt).astype(np.float64)
    counted = _counted_frames(rule, truth)
    if rule.absent in {"hit_and_miss", "removed"}:
        invalid = ~(gt > 0).all(axis=1)
        for values in (errors, normalized, overlaps):
            values[invalid] = -1.0
    frames = len(counted) if rule.absent == "removed" else int(counted.sum())
    score = SequenceScore(
        name=truth.name,
        frames=frames,
        precision_curve=count_at_most(errors[counted], rule.thresholds, rule.strict_precision) / frames,
        normalized_curve=count_at_most(normalized[counted], rule.normalized_thresholds) / frames,
        success_curve=count_above(overlaps[counted], rule.success_thresholds) / frames,
        errors=np.where(counted, errors, np.nan),
        overlaps=np.where(counted, overlaps, np.nan),
        attributes=truth.attributes,
        metrics={},
    )
    score.metrics.update(_numbers(rule, score.precision_curve, score.normalized_curve, score.success_curve))
    return score, "; ".join(notes) or None


def _compared(rule: BenchmarkRule, boxes: Floats, gt: Floats) -> tuple[Floats, Floats]:
    """Distances of the centres [N] and overlaps [N]."""
    errors = center_error(boxes, gt, rule.last_pixel == "center")
    overlaps = overlap(boxes, gt, rule.last_pixel != "no")
    return errors.astype(np.float64), overlaps.astype(np.float64)


def _numbers(rule: BenchmarkRule, precision: Floats, normalized: Floats, success: Floats) -> dict[str, float]:
    at = int(np.argmin(np.abs(rule.thresholds - rule.precision_px)))
    numbers = {rule.precision_name: float(precision[at])}
    if rule.normalized_name:
        at = int(np.argmin(np.abs(rule.normalized_thresholds - 0.2)))
        numbers[rule.normalized_name] = float(normalized[at])
    if rule.auc == "mean":
        numbers[rule.success_name] = float(success.mean())
    else:
        step = rule.success_thresholds[1] - rule.success_thresholds[0]
        numbers[rule.success_name] = float(((success[1:] + success[:-1]) / 2 * step).sum())
    return numbers


def _average(
    rule: BenchmarkRule, scores: Sequence[SequenceScore], missing: Collection[str]
) -> tuple[Floats, Floats, Floats]:
    """Mean curves; sequences in `missing` are zeros that the caller asked for, which no rule leaves out."""
    weights = np.array([score.frames if rule.weighting == "frame" else 1 for score in scores], dtype=np.float64)
    is_missing = np.array([score.name in missing for score in scores])

    def mean(curves: Sequence[Floats]) -> Floats:
        counted = is_missing | (np.any(curves, axis=1) if rule.skip_empty else True)
        return np.average(curves, axis=0, weights=weights * counted) if counted.any() else np.zeros(len(curves[0]))

    return (
        mean([score.precision_curve for score in scores]),
        mean([score.normalized_curve for score in scores]),
        mean([score.success_curve for score in scores]),
    )


def score_benchmark(
    rule: BenchmarkRule,
    truths: Sequence[GroundTruth],
    tracks: Mapping[str, Track],
    tracker: str = "tracker",
    missing: Literal["error", "skip", "zero"] = "error",
) -> BenchmarkScore:
    """Score one tracker's results against a benchmark.

    Args:
        rule: The benchmark's protocol.
        truths: Annotations of all sequences of the benchmark.
        tracks: Results by sequence name.
        tracker: Name of the tracker.
        missing: Sequences without results are an error (the benchmarks' own rule), are skipped (the numbers then hold
            for a subset, and `missing` lists the rest), or count as zero.

    Raises:
        ScoreError: Sequences that cannot be scored, by name.
    """
    if not truths:
        raise ScoreError(f"0 annotated sequences of {rule.title}; expected at least one")
    absent = tuple(truth.name for truth in truths if truth.name not in tracks)
    if absent and (missing == "error" or len(absent) == len(truths)):
        shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
        raise ScoreError(
            f"{tracker} has no results for {len(absent)} of {len(truths)} sequences of {rule.title}: {shown}; "
            "complete them, or score the others with missing=skip or missing=zero"
        )
    if absent and missing == "zero" and rule.long_term:
        raise ScoreError(
            f"{rule.title} averages over thresholds of reported frames, where missing=zero has no meaning; "
            "expected missing=skip, or complete results"
        )
    scores, notes = [], []
    for truth in truths:
        if truth.name in tracks:
            score, note = score_sequence(rule, truth, tracks[truth.name])
            scores.append(score)
            notes += [note] if note else []
        elif missing == "zero":
            scores.append(_zero(rule, truth))
    precision, normalized, success = _average(rule, scores, absent)
    metrics = _numbers(rule, precision, normalized, success)
    long_term = _score_long_term(truths, tracks) if rule.long_term else None
    if long_term:
        metrics = {"F": long_term.f_score, "Pr": long_term.precision, "Re": long_term.recall, **metrics}
    attributes = dict.fromkeys(attribute for score in scores for attribute in score.attributes)
    per_attribute = {
        attribute: _numbers(rule, *_average(rule, [score for score in scores if attribute in score.attributes], absent))
        for attribute in attributes
    }
    return BenchmarkScore(
        tracker, rule.name, metrics, tuple(scores), precision, normalized, success, per_attribute, absent,
        tuple(notes), long_term,
    )  # fmt: skip


def _zero(rule: BenchmarkRule, truth: GroundTruth) -> SequenceScore:
    curves = [np.zeros(len(t)) for t in (rule.thresholds, rule.normalized_thresholds, rule.success_thresholds)]
    unknown = np.full(len(truth.boxes), np.nan)
    metrics = dict.fromkeys(_numbers(rule, *curves), 0.0)
    return SequenceScore(
        truth.name, len(truth.boxes), curves[0], curves[1], curves[2], unknown, unknown, truth.attributes, metrics
    )


def _score_long_term(truths: Sequence[GroundTruth], tracks: Mapping[str, Track]) -> LongTermScore:
    prepared = []
    for truth in truths:
        track = tracks.get(truth.name)
        if track is None:
            continue
        if track.confidence is None:
            raise ScoreError(f"{track.name} has no confidences; precision, recall and F need one per frame")
        # The box of the first frame is given, so it is not a result; the toolkit still counts the frame as visible.
        boxes, confidence = track.boxes.copy(), track.confidence.copy()
        boxes[0], confidence[0] = np.nan, np.nan
        prepared.append(long_term_track(boxes, truth.boxes, confidence, truth.size))
    return long_term_score(prepared)
