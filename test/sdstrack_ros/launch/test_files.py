"""Files that are installed beside the launch files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

from sdstrack_ros.parameters.checks import settings_from_yaml
from testkit.launch import ROOT

CONFIGS = sorted((ROOT / "config").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_fit_the_table(path: Path) -> None:
    settings_from_yaml(path)


def test_rviz_file_shows_what_the_node_publishes() -> None:
    document = yaml.safe_load((ROOT / "config" / "sdstrack.rviz").read_text())
    manager = document["Visualization Manager"]
    topics = {display["Class"].rpartition("/")[2]: display.get("Topic", {}) for display in manager["Displays"]}
    assert topics["Image"]["Value"] == "/tracker/overlay"
    assert topics["MarkerArray"]["Value"] == "/tracker/markers"
    (cloud,) = (display for display in manager["Displays"] if display["Class"].endswith("/DepthCloud"))
    assert (cloud["Color Image Topic"], cloud["Depth Map Topic"]) == ("/rgb/image_raw", "/aux/image_raw")
    required = {"Depth", "Durability Policy", "History Policy", "Reliability Policy", "Value"}
    assert all(set(topics[name]) == required for name in ("Image", "MarkerArray", "Camera"))


def test_fastdds_profile_has_the_measured_numbers() -> None:
    space = {"d": "http://www.eprosima.com"}
    root = ET.parse(ROOT / "config" / "fastdds.xml").getroot()  # our own file
    shm, udp = root.findall(".//d:transport_descriptor", space)
    assert [e.findtext("d:type", namespaces=space) for e in (shm, udp)] == ["SHM", "UDPv4"]
    assert shm.findtext("d:segment_size", namespaces=space) == "33554432"
    assert shm.findtext("d:maxMessageSize", namespaces=space) == "4194304"
    listed = [e.text for e in root.findall(".//d:userTransports/d:transport_id", space)]
    assert listed == [e.findtext("d:transport_id", namespaces=space) for e in (shm, udp)]
    assert root.findtext(".//d:useBuiltinTransports", namespaces=space) == "false"
