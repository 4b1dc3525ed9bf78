"""What the folders promise, read from the sources: no import upward, no import circle, and ROS only where named."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# From the lowest room to the highest: a module imports only from its own room and from lower ones, even for its types.
# Rooms of one line do not depend on each other's place; ckd_core as a whole lies below sdstrack_ros.
ROOMS = [
    *(
        f"ckd_core.{room}"
        for room in (
            "text", "errors", "files", "locks", "orphans", "background", "settings", "frame", "boxes", "modality",
            "models", "tracking", "data", "objectives", "evaluation", "training", "deploy", "replay", "commands", "cli",
        )
    ),
    *(
        f"sdstrack_ros.{room}"
        for room in (
            "parameters", "messages", "sync", "tracking", "node", "bags", "demo", "doctor", "commands", "cli",
        )
    ),
]  # fmt: skip

# The ROS packages that a module, or every module of a room, may import; where none is named, it imports none.
ALLOWED_ROS = {
    "sdstrack_ros.bags.player": {"rclpy"},
    "sdstrack_ros.demo.live_replay": {"ament_index_python", "diagnostic_msgs", "geometry_msgs", "rclpy", "vision_msgs"},
    "sdstrack_ros.doctor": {"rclpy"},
    "sdstrack_ros.messages.image_codec": {"cv_bridge"},
    "sdstrack_ros.node": {
        "diagnostic_msgs", "event_camera_msgs", "geometry_msgs", "rcl_interfaces", "rclpy", "sensor_msgs", "std_msgs",
        "std_srvs", "tf2_msgs", "tf2_ros", "vision_msgs", "visualization_msgs",
    },
    "sdstrack_ros.parameters.docs": {"rcl_interfaces"},
    "sdstrack_ros.sync.filters": {"message_filters"},
    "sdstrack_ros.sync.message_filters_compat": {"message_filters"},
}  # fmt: skip
# Only these need ROS as soon as they are imported; message_filters may be absent, and then the stand-ins serve.
ROS_AT_TOP = ("sdstrack_ros.node", "sdstrack_ros.sync.message_filters_compat")

ROS_PACKAGE = re.compile(r"(\w+_(msgs|interfaces|srvs)|rcl\w*|tf2_\w+|message_filters|cv_bridge|launch\w*|ament_\w+)$")
ROS_FREE = re.compile(r"\bno ROS import(?: except in (?P<modules>[\w, ]+?))?[;.]", re.IGNORECASE)


@dataclass(frozen=True)
class Import:
    """One module that a module imports.

    Attributes:
        importer: The module that imports.
        imported: The module that it imports.
        when: "top", "lazy" (inside a function), or "types" (TYPE_CHECKING only).
        line: Where.
    """

    importer: str
    imported: str
    when: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}, line {self.line}, imports {self.imported} ({self.when})"


class ImportCollector(ast.NodeVisitor):
    """Collects the imports of a module, wherever they stand in it."""

    def __init__(self, importer: str) -> None:
        self.importer = importer
        self.imports: list[Import] = []
        self._when = "top"

    def _visit_as(self, when: str, nodes: list[ast.stmt]) -> None:
        before, self._when = self._when, when if self._when == "top" else self._when
        for node in nodes:
            self.visit(node)
        self._when = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._visit_as("lazy", node.body)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._visit_as("lazy", node.body)

    def visit_If(self, node: ast.If) -> None:
        self._visit_as("types" if ast.unparse(node.test) == "TYPE_CHECKING" else self._when, node.body)
        self._visit_as(self._when, node.orelse)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.importer}, line {node.lineno}: a relative import; write the whole name"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            self._add(whole if whole in source_files() else str(node.module), node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func).endswith(("import_module", "__import__")):
            for argument in node.args:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    self._add(argument.value, node.lineno)
        self.generic_visit(node)

    def _add(self, name: str, line: int) -> None:
        self.imports.append(Import(self.importer, name, self._when, line))


@cache
def source_files() -> dict[str, Path]:
    """Every module of both packages, by its dotted name."""
    found = {}
    for path in (path for package in ("ckd_core", "sdstrack_ros") for path in (ROOT / package).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(source_files()[module].read_text())


@cache
def imports() -> tuple[Import, ...]:
    """Every import in both packages."""
    found: list[Import] = []
    for name in source_files():
        collector = ImportCollector(name)
        collector.visit(tree(name))
        found += collector.imports
    return tuple(found)


def ros_imports() -> list[tuple[Import, str]]:
    packages = ((found, found.imported.partition(".")[0]) for found in imports())
    return [(found, package) for found, package in packages if ROS_PACKAGE.match(package)]


def is_in(module: str, place: str) -> bool:
    """Whether a module is `place` or lies in it."""
    return f"{module}.".startswith(f"{place}.")


def allowed_ros(module: str) -> set[str]:
    return {package for place, packages in ALLOWED_ROS.items() if is_in(module, place) for package in packages}


def room_of(module: str) -> str:
    return ".".join(module.split(".")[:2])


def docstring(module: str) -> str:
    return ast.get_docstring(tree(module)) or ""


def test_every_room_has_its_place() -> None:
    rooms = {room_of(module) for module in source_files() if "." in module}
    assert rooms == set(ROOMS)
    assert len(ROOMS) == len(set(ROOMS))


def test_no_room_imports_from_a_higher_one() -> None:
    own = [found for found in imports() if found.imported in source_files() and "." in found.imported]
    assert len(own) > 500
    upward = [
        str(found)
        for found in own
        if "." in found.importer and ROOMS.index(room_of(found.imported)) > ROOMS.index(room_of(found.importer))
    ]
    assert not upward, "\n".join(upward)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for found in imports():
        # `import a.b` inside a's own __init__ is how a package offers its parts; it closes no circle by itself.
        if found.when != "types" and found.imported in source_files() and found.imported != found.importer:
            graph.setdefault(found.importer, set()).add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_ros_is_imported_only_where_it_is_named() -> None:
    found = ros_imports()
    strangers = [str(each) for each, package in found if package not in allowed_ros(each.importer)]
    assert not strangers, "\n".join(strangers)
    for place, packages in ALLOWED_ROS.items():
        in_use = {package for each, package in found if is_in(each.importer, place)}
        assert packages <= in_use, f"{place} no longer imports {packages - in_use}"


def test_modules_outside_the_node_import_ros_only_when_they_are_used() -> None:
    early = [
        str(found)
        for found, _ in ros_imports()
        if found.when == "top" and not any(is_in(found.importer, place) for place in ROS_AT_TOP)
    ]
    assert not early, "\n".join(early)


FOLDERS = sorted(room for room in ROOMS if (ROOT / room.replace(".", "/")).is_dir() and room.startswith("sdstrack_ros"))


@pytest.mark.parametrize("room", FOLDERS)
def test_the_docstring_of_a_room_says_where_it_imports_ros(room: str) -> None:
    promise = ROS_FREE.search(docstring(room))
    if room in ALLOWED_ROS:
        assert promise is None
        return
    modules = [place.removeprefix(f"{room}.") for place in ALLOWED_ROS if is_in(place, room)]
    assert promise is not None, f"expected 'No ROS import{' except in ' if modules else ''}{' and '.join(modules)}.'"
    assert sorted(re.split(r", | and ", promise["modules"] or "")) == sorted(modules or [""])


def test_a_module_that_promises_no_ros_import_has_none() -> None:
    promising = {m for m in source_files() if (found := ROS_FREE.search(docstring(m))) and not found["modules"]}
    assert promising
    broken = [str(found) for found, _ in ros_imports() if found.importer in promising]
    assert not broken, "\n".join(broken)
