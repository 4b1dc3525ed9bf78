"""What the shipped code may not do, where files may go, and the permissions that the node needs."""

from __future__ import annotations

import ast
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from sdstrack_ros.tracking.weights_path import ALLOWED_VARIABLE, PathError, weights_path
from testkit.reliability.graph import POLICY, full_graph, parse_policy, policy_xml
from testkit.reliability.lengths import record

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path for package in ("ckd_core", "sdstrack_ros", "launch") for path in (ROOT / package).rglob("*.py"))
RUNTIME = [path for path in SHIPPED if path.parts[len(ROOT.parts)] == "sdstrack_ros"]

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_NAMES = {"os.system", "os.popen", "os.execv", "pickle.load", "pickle.loads", "marshal.loads", "shelve.open",
                   "yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "tempfile.mktemp"}  # fmt: skip
NETWORK_MODULES = {"socket", "http", "urllib", "urllib3", "requests", "ftplib", "smtplib", "telnetlib", "xmlrpc",
                   "aiohttp", "websockets", "huggingface_hub", "paramiko"}  # fmt: skip
PICKLING_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
# The one place that reads pickles: by torch's restricted unpickler, which calls nothing that is not on its list.
TORCH_READER = ROOT / "ckd_core" / "models" / "torch_files.py"
# `timm:NAME` as the start of a training, asked for by that name: timm fetches the weights.
DOWNLOADER = ROOT / "ckd_core" / "models" / "published" / "starts.py"
# A pair of connected sockets inside the process, which the interpreter wakes a thread by; no address, no other process.
LOCAL_SOCKETS = {ROOT / "sdstrack_ros" / "node" / "stopping.py": {"socket.socketpair"}}
EVERY_NODE_HAS = {"rosout", "parameter_events", "clock", "diagnostics", "tf", "tf_static"}
# Starting other programs: always a list of words, never a shell.
STARTERS = {
    ROOT / "ckd_core" / "evaluation" / "running" / "manifest.py",  # git, for the revision in a manifest
    ROOT / "sdstrack_ros" / "demo" / "live_replay.py",  # the node and the player
}


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def problems_in(path: Path, source: str) -> list[str]:
    """What a shipped file does and may not."""
    tree = ast.parse(source, str(path))
    problems = []
    for module in _imports(tree):
        root = module.partition(".")[0]
        if root in NETWORK_MODULES and not (root == "socket" and path in LOCAL_SOCKETS and "from socket" not in source):
            problems.append(f"imports {module}")
        if root in PICKLING_MODULES:
            problems.append(f"imports {module}")
        if root == "subprocess" and path not in STARTERS:
            problems.append("starts programs")
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = _dotted(node.func)
        if name.startswith("socket.") and name not in LOCAL_SOCKETS.get(path, ()):
            problems.append(f"calls {name}, line {node.lineno}")
        if name in FORBIDDEN_CALLS or name in FORBIDDEN_NAMES:
            problems.append(f"calls {name}, line {node.lineno}")
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        shell = options.get("shell")
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            problems.append(f"shell, line {node.lineno}")
        pickled = options.get("allow_pickle")
        if pickled is not None and not (isinstance(pickled, ast.Constant) and pickled.value is False):
            problems.append(f"allow_pickle, line {node.lineno}")
        restricted = options.get("weights_only")
        safely = isinstance(restricted, ast.Constant) and restricted.value is True
        if name == "torch.load" and not (safely and path == TORCH_READER):
            problems.append(f"torch.load instead of ckd_core.models.torch_files, line {node.lineno}")
        pretrained = options.get("pretrained")
        downloads = isinstance(pretrained, ast.Constant) and pretrained.value is True
        if downloads and path != DOWNLOADER:
            problems.append(f"downloads weights, line {node.lineno}")
    return problems


def test_shipped_code_has_no_pickle_eval_shell_or_network() -> None:
    by_file = {
        str(path.relative_to(ROOT)): problems for path in SHIPPED if (problems := problems_in(path, path.read_text()))
    }
    record("security", "source check", {"files": len(SHIPPED), "problems": by_file})
    assert len(SHIPPED) > 100
    assert {TORCH_READER, DOWNLOADER, *STARTERS} <= set(SHIPPED), "an exception for a file that moved"
    assert not by_file


@pytest.mark.parametrize(
    "line",
    [
        "import pickle", "from pickle import loads", "import socket", "from urllib.request import urlopen",
        "eval('1')", "import subprocess", "f(shell=True)", "import numpy as np; np.load(f, allow_pickle=True)",
        "import torch; torch.load(f)", "import yaml; yaml.load(f)", "import os; os.system('x')",
        "import timm; timm.create_model('x', pretrained=True)",
    ],
)  # fmt: skip
def test_the_check_itself_finds_each_of_them(line: str) -> None:
    assert problems_in(ROOT / "sdstrack_ros" / "anything.py", line)


@pytest.mark.parametrize("options", ["", ", weights_only=False", ", weights_only=flag"])
def test_the_reader_of_torch_files_may_load_them_in_one_way_only(options: str) -> None:
    assert problems_in(TORCH_READER, f"import torch; torch.load(f{options})")
    assert not problems_in(TORCH_READER, "import torch; torch.load(f, weights_only=True)")
    assert "weights_only=True" in TORCH_READER.read_text()


@pytest.mark.parametrize("line", ["import socket; socket.create_connection(a)", "from socket import create_connection"])
def test_a_module_with_local_sockets_opens_no_other(line: str) -> None:
    (path,) = LOCAL_SOCKETS
    assert problems_in(path, line)
    assert not problems_in(path, "import socket; socket.socketpair()")


_NO_NETWORK = """
import os, socket, sys
def no_fork(event, arguments):
    if event == "os.fork":  # a child could open sockets unseen
        os.write(2, b"forked")
        os._exit(1)
sys.addaudithook(no_fork)
def refused(*arguments, **named):
    raise SystemExit("a socket was opened")
class Refused(socket.socket):
    def connect(self, *arguments): refused()
socket.socket, socket.create_connection, socket.getaddrinfo = Refused, refused, refused
import numpy as np
from pathlib import Path
from ckd_core.tracking import build_tracker
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
tracker = build_tracker(model="sdstrack_tiny_test", weights=Path(sys.argv[1]), modality=Modality.DEPTH,
                        engine=sys.argv[2], device="cpu")
assert tracker.engine.name == sys.argv[2]
rgb = np.random.default_rng(0).integers(0, 255, (96, 128, 3), dtype=np.uint8)
tracker.start(MultiModalFrame(0.0, rgb, rgb[..., 0].astype(np.uint16), Modality.DEPTH), BoundingBox(30, 30, 30, 30))
tracker.update(MultiModalFrame(0.1, rgb, rgb[..., 0].astype(np.uint16), Modality.DEPTH))
print("tracked")
"""


@pytest.mark.parametrize("engine", ["torch/fp32", "openvino/fp32"])
def test_tracking_opens_no_connection(engine: str, tmp_path: Path) -> None:
    if engine.startswith("openvino"):
        pytest.importorskip("openvino", reason="the optional engine OpenVINO is not installed")
    from testkit.reliability.weights import write_tiny_weights

    weights = write_tiny_weights(tmp_path / "tiny.safetensors")
    environment = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS="1")
    done = subprocess.run(
        [sys.executable, "-c", _NO_NETWORK, str(weights), engine],
        env=environment, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout.strip()) == (0, "tracked"), done.stderr[-2000:]


# Paths from parameters.


def test_weights_are_a_regular_file_or_an_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOWED_VARIABLE, raising=False)
    good = tmp_path / "a.safetensors"
    good.write_bytes(b"x")
    assert weights_path("") is None
    assert weights_path(str(good)) == good.resolve()
    assert weights_path(str(tmp_path)) == tmp_path.resolve()
    pipe = tmp_path / "pipe.safetensors"
    os.mkfifo(pipe)
    link = tmp_path / "link.safetensors"
    link.symlink_to("/dev/zero")
    other = tmp_path / "shadow"
    other.write_text("secret")
    for refused in (pipe, link, other, Path("/dev/zero"), Path("/etc/passwd")):
        with pytest.raises(PathError, match=re.escape(str(refused))):
            weights_path(str(refused))
    with pytest.raises(PathError):
        weights_path("a\0b")


def test_weights_stay_below_the_allowed_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "models", tmp_path / "elsewhere"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.safetensors").write_bytes(b"x")
    (inside / "way_out.safetensors").symlink_to(outside / "a.safetensors")
    monkeypatch.setenv(ALLOWED_VARIABLE, str(inside))
    assert weights_path(str(inside / "a.safetensors")) == (inside / "a.safetensors").resolve()
    for way in (outside / "a.safetensors", inside / ".." / "elsewhere" / "a.safetensors",
                inside / "way_out.safetensors", outside):  # fmt: skip
        with pytest.raises(PathError, match=ALLOWED_VARIABLE):
            weights_path(str(way))


# Outputs.


def test_outputs_are_not_writable_by_others(tmp_path: Path) -> None:
    """Results, weights, checkpoints, recordings, whatever the umask leaves open: never writable by everybody."""
    from ckd_core.files import write_text
    from ckd_core.frame import Modality, MultiModalFrame
    from ckd_core.training.state_file import save_checkpoint
    from sdstrack_ros.bags.writer import write_bag
    from testkit.reliability.weights import write_tiny_weights

    mask = os.umask(0o022)
    try:
        write_text(tmp_path / "boxes.txt", "1,2,3,4\n")
        write_tiny_weights(tmp_path / "tiny.safetensors")
        save_checkpoint(tmp_path / "last.safetensors", {}, {"epoch": 1})
        rgb = np.zeros((12, 16, 3), np.uint8)
        write_bag(tmp_path / "bag", [MultiModalFrame(0.0, rgb, None, Modality.DEPTH)])
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.rglob("*")}
    finally:
        os.umask(mask)
    record("security", "file permissions", {name: oct(mode) for name, mode in modes.items()})
    assert len(modes) >= 5
    for name, mode in modes.items():
        assert not mode & 0o022, f"{name} {mode:o}"
        assert not mode & stat.S_ISUID, name


# Permissions on the network.


@pytest.mark.ros
@pytest.mark.timeout(400)
def test_policy_is_what_the_node_uses() -> None:
    """`python -m tools.security_report` writes it anew."""
    graph = full_graph()
    assert parse_policy(POLICY.read_text()) == graph
    assert POLICY.read_text() == policy_xml(graph)
    # What the documentation names, and nothing that only the node knows of.
    robots = (ROOT / "docs" / "robots.md").read_text()
    for name in {*graph.publish, *graph.subscribe} - {
        "rosout",
        "parameter_events",
        "clock",
        "diagnostics",
        "tf",
        "tf_static",
    }:
        plain = re.sub(r"/(compressed|compressedDepth)$", "", name)
        lifecycle = name == "~/transition_event"
        assert lifecycle or f"`{plain}`" in robots, f"{name} is not in docs/robots.md"
    record("security", "network", {"publish": graph.publish, "subscribe": graph.subscribe, "reply": graph.reply,
                                   "request": graph.request})  # fmt: skip


def test_policy_in_the_documentation_is_up_to_date() -> None:
    assert POLICY.read_text().strip() in (ROOT / "docs" / "security.md").read_text()


def test_a_wrong_policy_is_not_accepted() -> None:
    text = POLICY.read_text()
    for wrong in (
        text.replace('"ALLOW"', '"MAYBE"', 1),
        text.replace("<topics", "<subjects", 1).replace("</topics>", "</subjects>", 1),
    ):
        with pytest.raises((AssertionError, KeyError)):
            parse_policy(wrong)
