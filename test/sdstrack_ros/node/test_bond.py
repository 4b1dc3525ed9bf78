"""The bond with nav2's lifecycle manager. bondpy has no wheels: a stand-in has its documented calls."""

from __future__ import annotations

import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest

from sdstrack_ros.node.bond import WITHOUT, ManagerBond
from sdstrack_ros.node.faults import FaultLog

NODE = SimpleNamespace(get_name=lambda: "tracker")


class Bond:
    """bondpy.Bond, as far as it is used; periods cannot change once it has started."""

    made: list[Bond]

    def __init__(self, topic: str, name: str, node: Any, on_broken: Any = None, on_formed: Any = None) -> None:
        self.topic, self.id, self.node, self.on_broken = topic, name, node, on_broken
        self.calls: list[str] = []
        self.made.append(self)

    def __setattr__(self, name: str, value: Any) -> None:
        assert not (name.startswith("heartbeat") and "start" in self.calls)
        super().__setattr__(name, value)

    def start(self) -> None:
        self.calls.append("start")

    def set_broken_callback(self, on_broken: Any) -> None:
        self.on_broken = on_broken

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        if self.on_broken:
            self.on_broken()


@pytest.fixture
def bondpy(monkeypatch: pytest.MonkeyPatch) -> None:
    Bond.made = []
    package, module = types.ModuleType("bondpy"), types.ModuleType("bondpy.bondpy")
    module.Bond = Bond  # type: ignore[attr-defined]  # built here
    monkeypatch.setitem(sys.modules, "bondpy", package)
    monkeypatch.setitem(sys.modules, "bondpy.bondpy", module)


@pytest.mark.usefixtures("bondpy")
def test_the_bond_is_what_nav2s_manager_expects_and_ends_without_a_fault() -> None:
    faults = FaultLog(print)
    bond = ManagerBond(NODE, faults)  # type: ignore[arg-type]  # only its name is asked
    (made,) = Bond.made
    assert (made.topic, made.id, made.node, made.calls) == ("bond", "tracker", NODE, ["start"])
    assert (made.heartbeat_period, made.heartbeat_timeout) == (0.1, 4.0)  # type: ignore[attr-defined]
    assert not bond.refusal
    bond.destroy()
    bond.destroy()
    assert made.calls == ["start", "shutdown"]
    assert not faults.faults()


@pytest.mark.usefixtures("bondpy")
def test_a_manager_that_ends_is_a_fault() -> None:
    faults = FaultLog(print)
    ManagerBond(NODE, faults)  # type: ignore[arg-type]
    Bond.made[0].on_broken()
    (fault,) = faults.faults()
    assert (fault.cause, fault.message) == ("bond", "broken: no lifecycle manager beats")


def test_without_bondpy_a_line_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bondpy", None)
    lines: list[str] = []
    bond = ManagerBond(NODE, FaultLog(lines.append))  # type: ignore[arg-type]
    assert bond.refusal == WITHOUT
    assert lines == [f"bond: {WITHOUT}"]
    bond.destroy()
