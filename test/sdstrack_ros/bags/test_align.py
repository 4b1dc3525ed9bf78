"""`sdstrack align` on a recording and on a folder: residual, overlay, and the parameter file that the node reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import sdstrack_ros.commands
from ckd_core.cli import build_app
from ckd_core.data.sequences import write_sequence
from ckd_core.deploy.alignment import AlignmentError, align
from ckd_core.frame import Modality, MultiModalFrame
from sdstrack_ros.bags.align import frames_to_align
from sdstrack_ros.bags.frames import BagTopics
from sdstrack_ros.bags.writer import write_bag
from sdstrack_ros.parameters.checks import settings_from_yaml

MOVE = np.array([[0.9, 0.0, -20.0], [0.0, 0.9, -10.0], [0.0, 0.0, 1.0]])
CONFIGS = Path(__file__).parents[3] / "config"


def frames(count: int = 8) -> list[MultiModalFrame]:
    made = []
    for index in range(count):
        rng = np.random.default_rng(index)
        light, heat = np.full((360, 480), 90, np.uint8), np.full((360, 480), 60, np.uint8)
        for _ in range(40):
            at, size = rng.integers((0, 0), (440, 320)), rng.integers(12, 60, 2)
            for image in (light, heat):
                cv2.rectangle(image, at.tolist(), (at + size).tolist(), int(rng.integers(20, 235)), -1)
        shift = np.array([[1.0, 0, -120], [0, 1.0, -90], [0, 0, 1]])
        rgb = np.repeat(cv2.warpPerspective(light, shift, (240, 180))[..., None], 3, axis=2)
        made.append(
            MultiModalFrame(index / 10, rgb, cv2.warpPerspective(heat, MOVE @ shift, (200, 160)), Modality.THERMAL)
        )
    return made


def run(*words: object) -> tuple[int, str]:
    result = CliRunner().invoke(build_app(sdstrack_ros.commands), ["align", *map(str, words)])
    return result.exit_code, result.output


@pytest.mark.parametrize("source", ["bag", "folder"])
@pytest.mark.parametrize("config", ["rgbt", "flir_rgbt"])
def test_the_parameter_file_keeps_its_comments_and_gains_the_homography(
    tmp_path: Path, source: str, config: str
) -> None:
    if source == "bag":
        words = [write_bag(tmp_path / "bag", frames()), "--modality", "thermal"]
    else:
        words = [write_sequence(tmp_path / "folder", frames(), np.full((8, 4), 5.0))]
    before, mine = CONFIGS / f"{config}.yaml", tmp_path / "mine.yaml"
    status, said = run(*words, "--overlay", tmp_path / "o.png", "--config", before, "--out", mine)
    assert status == 0, said
    assert "edges: residual " in said
    found = np.array(settings_from_yaml(mine).aux_homography).reshape(3, 3)
    points = np.array([[[60.0, 45.0]], [[180.0, 45.0]], [[60.0, 135.0]], [[180.0, 135.0]]])
    differ = cv2.perspectiveTransform(points, found) - cv2.perspectiveTransform(points, MOVE)
    assert np.abs(differ).max() < 4
    kept = [line for line in before.read_text().splitlines() if "aux_homography:" not in line]
    assert [line for line in mine.read_text().splitlines() if "aux_homography:" not in line] == kept
    assert cv2.imread(str(tmp_path / "o.png")).shape == (180, 480, 3)
    again, said = run(*words, "--overlay", tmp_path / "o.png", "--config", mine)
    assert again == 0, said
    assert mine.read_text().count("aux_homography:") == 1 + sum(
        "aux_homography:" in line for line in before.read_text().splitlines() if line.lstrip().startswith("#")
    )


def test_a_value_over_several_lines_is_replaced_whole(tmp_path: Path) -> None:
    folder = write_sequence(tmp_path / "folder", frames(), np.full((8, 4), 5.0))
    config = tmp_path / "c.yaml"
    config.write_text(
        "tracker:\n  ros__parameters:\n    modality: thermal\n    aux_homography: [1.0, 0.0, 0.0,\n"
        "      0.0, 1.0, 0.0,\n      0.0, 0.0, 1.0]  # identity\n    max_skew_s: 0.02\n"
    )
    status, said = run(folder, "--overlay", tmp_path / "o.png", "--config", config)
    assert status == 0, said
    assert len(config.read_text().splitlines()) == 5
    assert settings_from_yaml(config).aux_homography[0] == pytest.approx(0.9, abs=0.05)


def test_options_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    bag = write_bag(tmp_path / "bag", frames(3))
    assert "expected inner corners such as 9x6" in " ".join(run(bag, "--board", "9")[1].replace("│", "").split())
    assert run(bag, "--out", tmp_path / "x.yaml")[0] == 2
    with pytest.raises(AlignmentError, match="give --modality"):
        frames_to_align(bag, None, BagTopics())


@pytest.mark.parametrize("count", [1, 5, 12, 13, 24, 25, 100])
def test_frames_are_spread_over_the_whole_recording(tmp_path: Path, count: int) -> None:
    small = [
        MultiModalFrame(i / 10, np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), Modality.THERMAL)
        for i in range(count)
    ]
    chosen = frames_to_align(write_sequence(tmp_path, small, np.full((count, 4), 2.0)), None, BagTopics(), 12)
    stamps = [round(frame.stamp * 10) for frame in chosen]
    assert len(stamps) == min(count, 12)
    assert stamps == sorted(set(stamps))
    assert stamps[0] == 0
    assert stamps[-1] >= count * 0.8 - 1


# Sequences that had no part in the choice of the thresholds. Their cameras are registered; one is then moved.
@pytest.mark.shared
@pytest.mark.parametrize("name", ["rgbt_m3svd_0113_1714", "rgbe_evbench_seq1"])
@pytest.mark.parametrize("moved", [False, True])
def test_real_cameras_are_aligned_that_no_threshold_was_chosen_on(shared_data: Path, name: str, moved: bool) -> None:
    seen = frames_to_align(shared_data / "sequences" / name, None, BagTopics())
    (height, width), (aux_height, aux_width) = seen[0].rgb.shape[:2], seen[0].aux.shape[:2]  # type: ignore[union-attr]
    move = np.eye(3)
    if moved:
        move = np.array([[0.93, 0.01, 0.023 * aux_width], [-0.01, 0.93, -0.0125 * aux_width], [0, 0, 1.0]])
        seen = [replace(frame, aux=cv2.warpPerspective(np.asarray(frame.aux), move, (aux_width, aux_height),
                                                       flags=cv2.INTER_NEAREST)) for frame in seen]  # fmt: skip
    found = align(seen)
    true = move @ np.diag([aux_width / width, aux_height / height, 1.0])
    points = np.array([[[x * width, y * height]] for x in (0.25, 0.75) for y in (0.25, 0.75)])
    differ = cv2.perspectiveTransform(points, found.homography) - cv2.perspectiveTransform(points, true)
    assert np.linalg.norm(differ, axis=2).max() < 0.025 * aux_width, found.describe()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("color", "aux"),
    [("rgbt_m3svd_0113_1714", "rgbt_m3svd_clip_0111_1753"), ("rgbe_evbench_seq1", "rgbe_emlb_cradle")],
)
def test_cameras_of_two_real_places_are_refused(shared_data: Path, color: str, aux: str) -> None:
    here, there = (frames_to_align(shared_data / "sequences" / name, None, BagTopics()) for name in (color, aux))
    size = np.asarray(here[0].aux).shape[1::-1]
    mixed = [replace(a, aux=cv2.resize(np.asarray(b.aux), size)) for a, b in zip(here, there, strict=False)]
    with pytest.raises(AlignmentError, match="edges of both cameras do not agree"):
        align(mixed)


@pytest.mark.shared
def test_frames_that_agree_on_a_wrong_place_are_refused(shared_data: Path) -> None:
    """Twelve frames of one place share one wrong optimum: what they agree on says little, how well edges match more."""
    seen = frames_to_align(shared_data / "sequences" / "rgbe_emlb_cradle", None, BagTopics())
    width, height = np.asarray(seen[0].aux).shape[1::-1]
    move = np.array([[0.8, 0, 60 * width / 640], [0, 0.8, 40 * width / 640], [0, 0, 1.0]])
    far = [replace(frame, aux=cv2.warpPerspective(np.asarray(frame.aux), move, (width, height),
                                                  flags=cv2.INTER_NEAREST)) for frame in seen]  # fmt: skip
    with pytest.raises(AlignmentError, match=r"correlation 0\.3\d, expected 0\.42 or more"):
        align(far)
