from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ckd_core.frame import Modality
from sdstrack_ros.bags.frames import BagTopics
from sdstrack_ros.bags.storage.opening import COMPRESSED_IMAGE, EVENT_PACKET, IMAGE
from sdstrack_ros.demo import run
from sdstrack_ros.demo.live_replay import LiveReplayError, _input_arguments, _wait_for_partner, replay

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("modality", "rgb", "aux", "bases", "remapped"),
    [
        (Modality.DEPTH, "/c/image", "/d/image", ("/c/image", "/d/image"), []),
        (Modality.DEPTH, "/c/compressed", "/d/compressedDepth", ("/c", "/d"), []),
        (Modality.DEPTH, "/c/compressed", "/d/compressed", ("/c", "/d"), ["-r", "/d/compressedDepth:=/d/compressed"]),
        (Modality.THERMAL, "/c/compressed", "/t/compressed", ("/c", "/t"), []),
        (Modality.THERMAL, "/c/jpeg", "/t/compressed", ("/c/jpeg", "/t"), ["-r", "/c/jpeg/compressed:=/c/jpeg"]),
        (Modality.EVENT, "/c/compressed", "/events", ("/c", "/events"), []),
    ],
)
def test_the_node_reads_the_topics_that_are_recorded(
    modality: Modality, rgb: str, aux: str, bases: tuple[str, str], remapped: list[str]
) -> None:
    compressed = rgb != "/c/image"
    kind = COMPRESSED_IMAGE if compressed else IMAGE
    types = {rgb: kind, aux: EVENT_PACKET if aux == "/events" else kind}
    parameters, remappings = _input_arguments(BagTopics(rgb, aux), types, modality)
    assert (parameters["rgb_topic"], parameters["aux_topic"]) == bases
    assert parameters["transport"] == ("compressed" if compressed else "raw")
    assert parameters["events_topic"] == aux
    assert remappings == remapped


@pytest.mark.parametrize("packed", ["/c", "/d"])
def test_a_raw_and_a_compressed_camera_are_refused(packed: str) -> None:
    types = {name: COMPRESSED_IMAGE if name == packed else IMAGE for name in ("/c", "/d")}
    with pytest.raises(LiveReplayError, match=f"{packed} is compressed.*both raw or both compressed"):
        _input_arguments(BagTopics("/c", "/d"), types, Modality.DEPTH)


@pytest.mark.parametrize(
    ("rate", "parameters", "wait_s"),
    [(1.0, {}, 0.05), (4.0, {}, 0.05), (0.1, {}, 0.5), (0.5, {"max_wait_s": 0.1}, 0.2)],
)
def test_slow_playback_lengthens_the_wait_for_a_partner(
    rate: float, parameters: dict[str, object], wait_s: float
) -> None:
    assert _wait_for_partner(parameters, rate) == pytest.approx(wait_s)
    assert _wait_for_partner(parameters, 1e-4) == 10.0, "the parameter allows no more"


@pytest.mark.ros
def test_a_node_that_cannot_start_is_reported_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "DEMO_FRAMES", 2)
    monkeypatch.setattr(run, "DEMO_SIZE", (160, 120))
    demo = run.demo_synthetic_recording(Modality.DEPTH, tmp_path)
    parameters = {"weights": str(tmp_path / "absent.safetensors")}
    with pytest.raises(LiveReplayError, match=r"configure failed: .*absent\.safetensors"):
        replay(demo.bag, demo.topics, parameters, tmp_path / "logs")
