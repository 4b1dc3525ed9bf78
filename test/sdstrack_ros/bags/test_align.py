"""`sdstrack align` on a recording and on a folder: residual, overlay, and the parameter file that the node reads."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import sdstrack_ros.commands
from ckd_core.cli import build_app
from ckd_core.data.sequences import write_sequence
from ckd_core.deploy.alignment import AlignmentError
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
