"""What a release into a ROS distribution needs: keys that exist, a changelog for bloom, an honest declaration."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from catkin_pkg.changelog import Changelog, populate_changelog_from_rst
from catkin_pkg.package import parse_package
from catkin_pkg.package_version import get_forthcoming_label, rename_section

ROOT = Path(__file__).parents[1]
KEYS = yaml.safe_load((ROOT / "test" / "rosdep_keys.yaml").read_text())
MANIFEST = ET.parse(ROOT / "package.xml").getroot()


def depends(*tags: str) -> set[str]:
    return {str(node.text) for node in MANIFEST if node.tag in tags}


def test_the_manifest_is_valid_and_every_key_is_known() -> None:
    package = parse_package(str(ROOT / "package.xml"))
    package.validate()
    assert depends("exec_depend", "test_depend") == {*KEYS["ros"], *KEYS["system"]}


def test_nothing_that_runs_on_a_robot_comes_from_pip() -> None:
    """Build farms install no key that ends in -pip."""
    assert not [key for key in depends("exec_depend", "test_depend", "build_depend") if key.endswith("-pip")]


WITHOUT_PIP = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in ABSENT:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)

sys.meta_path.insert(0, Missing())
"""


def test_the_node_needs_only_packages_with_a_key(tmp_path: Path) -> None:
    absent = {name.partition(".")[0] for name in KEYS["no_key"]} - {"backports"} | {
        "typer",
        "rich",
        "timm",
        "torchvision",
    }
    code = f"""ABSENT = {absent!r}{WITHOUT_PIP}
import sdstrack_ros.node.tracker_node
import sdstrack_ros.bags.replay_command as replay
from pathlib import Path
from ckd_core.models.checkpoint import load_model
print(load_model("sdstrack_s128")[1].model)
print(sorted(replay.recorded_topics(Path({str(bag(tmp_path))!r}))))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["sdstrack_s128", "['/left']"]


@pytest.mark.parametrize(("verb", "package"), [("play", "rosbags"), ("evaluate", "rosbags")])
def test_a_verb_that_needs_a_package_without_a_key_names_it(tmp_path: Path, verb: str, package: str) -> None:
    (tmp_path / "bag.mcap").touch()
    code = f"""ABSENT = {KEYS["no_key"]!r}{WITHOUT_PIP}
sys.argv = ["sdstrack", {verb!r}, {str(tmp_path / "bag.mcap")!r}]
from sdstrack_ros.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"pip install {package} (docs/robots.md" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def bag(folder: Path) -> Path:
    topic = {"name": "/left", "type": "sensor_msgs/msg/Image", "offered_qos_profiles": "- history: 1\n  depth: 5"}
    about = {"relative_file_paths": [], "topics_with_message_count": [{"topic_metadata": topic, "message_count": 3}]}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": about}))
    return folder


def test_bloom_reads_the_changelog_and_it_has_the_versions_of_the_other() -> None:
    text = (ROOT / "CHANGELOG.rst").read_text()
    headings = re.findall(r"^## \[([^]]+)\] ?(\S*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    unreleased = [version for name, version in headings if name == "Unreleased"]
    assert get_forthcoming_label(text) == ("Forthcoming" if unreleased else None)
    for version in unreleased:  # as catkin_prepare_release does it
        text = rename_section(text, "Forthcoming", f"{version} (2030-01-31)")
    changelog = populate_changelog_from_rst(Changelog("sdstrack_ros"), text)
    contents = {version: content for version, _, content in changelog.foreach_version()}
    assert set(contents) == {version if name == "Unreleased" else name for name, version in headings}
    assert all(contents.values()), "an empty list is an empty changelog of the Debian package"


def test_the_declaration_covers_every_section_of_rep_2004() -> None:
    text = (ROOT / "QUALITY_DECLARATION.md").read_text()
    assert re.search(r"claims \*\*Quality Level [1-5]\*\*", text)
    assert {row[0] for row in re.findall(r"^\| (\d)\.", text, re.MULTILINE)} == set("1234567")
    stable = not str(MANIFEST.findtext("version")).startswith("0.")
    assert ("**no**: 0." in text) is not stable
    for target in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (ROOT / target).exists(), target


@pytest.mark.parametrize("page", ["README.md", "docs/robots.md", "Dockerfile"])
def test_nobody_is_told_to_break_system_packages(page: str) -> None:
    text = (ROOT / page).read_text().lower().replace("_", "-")
    assert "break-system-packages" not in text
    assert "venv --system-site-packages" in text
