"""The layouts for RViz and Foxglove show topics that the node has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG = Path(__file__).parents[2] / "config"
FOXGLOVE = json.loads((CONFIG / "sdstrack.foxglove.json").read_text())


def own_topics() -> set[str]:
    """What the node publishes and subscribes by its security policy, which a test compares with the running node."""
    policy = ET.parse(CONFIG / "sros2_policy.xml").getroot()
    return {str(topic.text).replace("~/", "/tracker/") for topic in policy.iter("topic")}


def panels(layout: Any) -> Iterator[str]:
    if isinstance(layout, str):
        yield layout
        return
    yield from panels(layout["first"])
    yield from panels(layout["second"])


def test_every_panel_of_the_foxglove_layout_is_configured_and_placed() -> None:
    assert sorted(panels(FOXGLOVE["layout"])) == sorted(FOXGLOVE["configById"])
    kinds = {name.partition("!")[0] for name in FOXGLOVE["configById"]}
    assert {"Image", "3D", "Plot", "StateTransitions"} <= kinds


def test_layouts_show_topics_that_the_node_has() -> None:
    for path in (CONFIG / "sdstrack.foxglove.json", CONFIG / "sdstrack.rviz"):
        named = set(re.findall(r"/tracker/\w+", path.read_text()))
        assert len(named) >= 4
        assert named <= own_topics(), path.name


def test_rviz_shows_pose_markers_and_frames() -> None:
    displays = yaml.safe_load((CONFIG / "sdstrack.rviz").read_text())["Visualization Manager"]["Displays"]
    shown = {display["Class"].rpartition("/")[2]: display for display in displays if display["Enabled"]}
    assert shown["PoseWithCovariance"]["Topic"]["Value"] == "/tracker/target_pose_cov"
    assert {"MarkerArray", "TF", "Image"} <= set(shown)
