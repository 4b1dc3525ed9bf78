"""The parameter table on a running node."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter

from sdstrack_ros.node.node_parameters import NodeParameters
from sdstrack_ros.parameters.spec import ParameterError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testkit.ros.camera import RosTest

SINGULAR = [1.0] * 9


@contextmanager
def started(ros: RosTest, **values: Any) -> Iterator[tuple[Node, NodeParameters]]:
    """A node whose start file holds `values`, and its table."""
    node = Node(
        "started",
        context=ros.context,
        automatically_declare_parameters_from_overrides=True,
        parameter_overrides=[Parameter(name, value=value) for name, value in values.items()],
    )
    try:
        yield node, NodeParameters(node, lambda before, after: None)
    finally:
        node.destroy_node()


def put(node: Node, **values: Any) -> str:
    """Set parameters one by one; returns why the last one was refused, '' when it was accepted."""
    return str(node.set_parameters([Parameter(name, value=value) for name, value in values.items()])[-1].reason)


def test_start_values_that_contradict_each_other_are_kept_and_can_be_mended(ros: RosTest) -> None:
    file = {
        "modality": "thermal",
        "rgb_topic": "/flir/image",
        "min_depth_m": 25.0,
        "autostart": True,
        "strict_device": True,
    }
    with started(ros, **file) as (node, table):
        assert table.settings.autostart, "configure is tried, and says why it fails"
        with pytest.raises(ParameterError, match=r"min_depth_m 25.0 must be below max_depth_m 20.0"):
            table.checked()
        assert put(node, label="person") == ""
        assert "must be below" in table.refusal, "another value mends nothing"
        assert "must be below max_depth_m 24.0" in put(node, max_depth_m=24.0)
        assert put(node, max_depth_m=30.0) == ""
        settings = table.checked()
        assert {name: getattr(settings, name) for name in file} == file
        assert (settings.label, settings.max_depth_m) == ("person", 30.0)
        assert {name: node.get_parameter(name).value for name in file} == file


def test_several_contradictions_are_reported_together_and_mended_one_by_one(ros: RosTest) -> None:
    file = {"min_depth_m": 25.0, "aux_homography": SINGULAR, "init_box": [1.0, 2.0, -3.0, 4.0]}
    with started(ros, **file) as (node, table):
        assert all(word in table.refusal for word in ("min_depth_m", "aux_homography", "init_box"))
        assert put(node, min_depth_m=1.0, init_box=[1.0, 2.0, 3.0, 4.0]) == ""
        with pytest.raises(ParameterError, match=r"^aux_homography .* cannot be inverted"):
            table.checked()
        assert put(node, aux_homography=[2.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0]) == ""
        assert table.checked().min_depth_m == 1.0


def test_a_refused_start_value_is_replaced_by_the_default_until_a_good_one_is_set(ros: RosTest) -> None:
    with started(ros, modality="radar", threads=2) as (node, table):
        assert (table.settings.modality, table.settings.threads) == ("depth", 2)
        assert put(node, threads=3) == ""
        with pytest.raises(ParameterError, match="'modality' cannot be 'radar'"):
            table.checked()
        assert put(node, modality="event") == ""
        assert table.checked().modality == "event"


def test_a_new_contradiction_is_refused_and_changes_nothing(ros: RosTest) -> None:
    with started(ros) as (node, table):
        assert "must be below max_depth_m" in put(node, min_depth_m=25.0)
        assert table.refusal == ""
        assert table.checked().min_depth_m == 0.1


@pytest.mark.skipif(
    not hasattr(Node, "add_pre_set_parameters_callback"), reason="rclpy of ROS 2 Humble has no such hook"
)
def test_an_integer_for_a_double_becomes_one(ros: RosTest) -> None:
    with started(ros) as (node, table):
        assert put(node, max_skew_s=1, init_box=[200, 150, 60, 80], threads=2) == ""
        types = {name: node.get_parameter(name).type_ for name in ("max_skew_s", "init_box", "threads")}
        assert types == {
            "max_skew_s": Parameter.Type.DOUBLE,
            "init_box": Parameter.Type.DOUBLE_ARRAY,
            "threads": Parameter.Type.INTEGER,
        }
        assert table.settings.init_box == (200.0, 150.0, 60.0, 80.0)
        assert "out of range Min: 0.0, Max: 10.0" in put(node, max_skew_s=11)
        assert node.get_parameter("max_skew_s").value == 1.0
