"""The interface packages for machines without a ROS distribution, and the script that installs them."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
INTERFACES = ROOT / "test" / "interfaces"

# What the published packages' own installations state (vision_msgs 4.1.1, Jazzy; event_camera_msgs as in a recorded
# bag's metadata). Equal hashes mean equal names, fields, types and order, all the way down.
PUBLISHED = {
    "tf2_msgs/msg/TFMessage": "e369d0f05a23ae52508854b66f6aa0437f3449d652e8cbf22d5abe85d020f087",
    "vision_msgs/msg/Detection2DArray": "214274120007f4a683866481336b70310268cfa107aebe9d594a6acf75bda968",
    "vision_msgs/msg/Detection2D": "0d12b69df5c593b3455b7346fac8205437a7d4bcb09b9e0e0b2dde787ded38ea",
    "vision_msgs/msg/Detection3DArray": "793f5eab9595ac1c0da07873cc859db42eae51f0ee76056db8562515d830e018",
    "vision_msgs/msg/Detection3D": "ddd703be132ab0b69d33121f1bb034132bfbb3b0ac5f9fb1516005ba1c8a265b",
    "event_camera_msgs/msg/EventPacket": "d6fa176260b1f37e5a40845305315e150a0f18191241eb64f407442aa29844aa",
}


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "build_interfaces", ROOT / "tools" / "environment" / "build_interfaces.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PUBLISHED)
def test_definitions_have_the_published_type_hash(name: str) -> None:
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    for path in sorted(INTERFACES.glob("*/msg/*.msg")):
        kind = f"{path.parents[1].name}/msg/{path.stem}"
        if kind not in store.types:
            store.register(get_types_from_msg(path.read_text(), kind))
    assert store.hash_rihs01(name) == f"RIHS01_{PUBLISHED[name]}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_installed_bindings_have_the_published_type_hash(name: str) -> None:
    description = Path(sys.prefix) / "share" / f"{name}.json"
    if not description.is_file():
        pytest.skip("the bindings here come from elsewhere (apt); their own build states no hash under this prefix")
    hashes = {entry["type_name"]: entry["hash_string"] for entry in json.loads(description.read_text())["type_hashes"]}
    assert hashes[name] == f"RIHS01_{PUBLISHED[name]}"


def test_bindings_carry_a_detection_through_cdr() -> None:
    pytest.importorskip("rclpy")
    from rclpy.serialization import deserialize_message, serialize_message
    from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

    detection = Detection2D(id="7")
    detection.bbox.center.position.x, detection.bbox.size_y = 12.5, 3.25
    result = ObjectHypothesisWithPose()
    result.hypothesis.class_id, result.hypothesis.score = "cup", 0.75
    detection.results.append(result)
    message = Detection2DArray(detections=[detection])
    assert deserialize_message(serialize_message(message), Detection2DArray) == message


def test_substitutes_stay_out_of_a_colcon_workspace() -> None:
    assert (INTERFACES / "COLCON_IGNORE").exists()


def test_exports_point_at_this_interpreter(tmp_path: Path) -> None:
    script = load_script()
    export = tmp_path / "share" / "x_msgs" / "cmake" / "xExport.cmake"
    export.parent.mkdir(parents=True)
    builder = "/opt/python/cp312-cp312/include/python3.12;/opt/python/cp312-cp312/lib/python3.12/site-packages"
    export.write_text(f'set(A "{builder}/numpy/_core/include")\n')
    facts = {"python_include": "/here/include", "numpy_include": "/here/numpy"}
    assert script.fix_exports(tmp_path, facts) == 1
    assert export.read_text() == 'set(A "/here/include;/here/numpy")\n'
    assert script.fix_exports(tmp_path, facts) == 0


def test_an_installation_counts_only_when_complete(tmp_path: Path) -> None:
    script = load_script()
    stage, venv = tmp_path / "stage", tmp_path / "venv"
    for name in ("lib/a.so", "share/b.json"):
        (stage / name).parent.mkdir(parents=True, exist_ok=True)
        (stage / name).write_text(name)
    names = script.install(stage, venv)
    assert not script.is_installed(venv, "k1"), "no mark before the installation was tried"
    script.set_mark(venv, "k1", names)
    assert script.is_installed(venv, "k1")
    assert not script.is_installed(venv, "k2")
    (venv / "lib/a.so").unlink()
    assert not script.is_installed(venv, "k1")

    (stage / "lib/a.so").unlink()
    (venv / "lib/a.so").write_text("of the earlier installation")
    assert script.install(stage, venv) == ["share/b.json"]
    assert not (venv / "lib/a.so").exists(), "a file that the new content no longer has must go"
    assert not [p for p in venv.rglob(".*") if p.is_file()], "no temporary file may stay"


def test_content_key_follows_sources_and_environment() -> None:
    script = load_script()
    facts = {"prefix": "/a", "python": "cpython-311-x", "numpy": "2", "generators": {"g": "1"}}
    key = script.content_key(facts)
    assert key == script.content_key(dict(facts))
    assert key != script.content_key(facts | {"python": "cpython-312-x"})
    assert key != script.content_key(facts | {"prefix": "/b"})
    assert key != script.content_key(facts | {"generators": {"g": "2"}})


def test_a_folder_that_is_not_an_environment_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    script = load_script()
    monkeypatch.setattr(sys, "argv", ["build_interfaces.py", "--venv", str(tmp_path)])
    assert script.main() == 1
    assert "no bin/python" in capsys.readouterr().err
