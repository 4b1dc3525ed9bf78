"""Damaged and hostile files at every parser: weights, published checkpoints, configs, recordings, results.

Each is read or refused with the package's own error; nothing inside a file ever runs.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from hypothesis import strategies as st

from ckd_core.data.box_files import parse_table
from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, Modality, MultiModalFrame
from testkit.reliability.lengths import examples, record
from testkit.reliability.messages import corpus, mutations

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def _tally(kind: str, inputs: list[Any], read: Callable[[Any], object]) -> Counter[str]:
    """Read every input; only TrackingError may come out."""
    outcomes: Counter[str] = Counter()
    for item in inputs:
        try:
            read(item)
        except TrackingError as error:
            assert str(error)
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    record("fuzz", f"{kind} (files)", dict(outcomes))
    return outcomes


# Result files.

_ROWS = "\n".join(f"{10 + i},{20 + i}.5,30,40" for i in range(30))


def test_box_files() -> None:
    source = random.Random(1)
    texts = corpus(st.text(st.sampled_from("0123456789.,;\t \n-+eEnaNif\ufeff\0x"), max_size=60), examples(400))
    damaged = [bytes(data).decode("utf-8", "replace") for data in mutations(_ROWS.encode(), source, examples(400))]
    outcomes = _tally("box file", texts + damaged, lambda text: parse_table(text, "fuzz.txt"))
    assert outcomes["read"] > 0
    assert outcomes["refused"] > 0


def test_damaged_archives_of_results(tmp_path: Path) -> None:
    from ckd_core.evaluation.scoring.raw_results import read_results

    archive = tmp_path / "tracker.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("tracker/a.txt", _ROWS)
    whole = archive.read_bytes()

    def read(data: bytes) -> None:
        archive.write_bytes(data)
        read_results(archive, ["a"])

    outcomes = _tally("results archive", list(mutations(whole, random.Random(2), examples(150, 2000))), read)
    assert outcomes["refused"] > 0


def test_archive_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    from ckd_core.evaluation.scoring.archives import MAX_TEXT_BYTES, ResultsError
    from ckd_core.evaluation.scoring.raw_results import read_results

    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stream:
        stream.writestr("a.txt", b"0" * (MAX_TEXT_BYTES + 1))
    assert archive.stat().st_size < 100_000
    with pytest.raises(ResultsError, match="unpacks to"):
        read_results(archive, ["a"])


def test_archive_cannot_name_files_outside(tmp_path: Path) -> None:
    """Archives are read in memory: a member called ../x makes no file."""
    from ckd_core.evaluation.scoring.raw_results import read_results

    archive = tmp_path / "inner" / "tracker.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as stream:
        stream.writestr("../../escaped.txt", _ROWS)
        stream.writestr("a.txt", _ROWS)
    before = sorted(tmp_path.rglob("*"))
    read_results(archive, ["a"])
    assert sorted(tmp_path.rglob("*")) == before


# Configs.

_PARAMETERS = """
/**:
  ros__parameters:
    model: sdstrack_s128
    modality: depth
    init_box: [1.0, 2.0, 30.0, 40.0]
    max_skew_s: 0.015
    autostart: true
"""
_YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def test_ros_parameter_files(tmp_path: Path) -> None:
    from sdstrack_ros.parameters.checks import settings_from_yaml
    from sdstrack_ros.parameters.table import TABLE

    path = tmp_path / "node.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        settings_from_yaml(path)

    names = st.sampled_from([*TABLE, "no_such_parameter"])
    trees = corpus(st.dictionaries(names, _YAML_VALUES, max_size=4), examples(250))
    files = [yaml.safe_dump({"/**": {"ros__parameters": tree}}).encode() for tree in trees]
    files += [yaml.safe_dump(tree).encode() for tree in corpus(_YAML_VALUES, examples(60))]
    files += list(mutations(_PARAMETERS.encode(), random.Random(3), examples(300)))
    outcomes = _tally("ROS parameter file", files, read)
    assert outcomes["refused"] > 0


def test_training_configs(tmp_path: Path) -> None:
    from ckd_core.settings import read_settings
    from ckd_core.training.config import TrainSettings

    path = tmp_path / "train.yaml"
    keys = st.sampled_from(["model", "objective", "data", "optimizer", "schedule", "epochs", "seed", "x"])

    def read(data: bytes) -> None:
        path.write_bytes(data)
        read_settings(path, TrainSettings)

    trees = corpus(st.dictionaries(keys, _YAML_VALUES, max_size=5), examples(250))
    files = [yaml.safe_dump(tree).encode() for tree in trees]
    for config in sorted((ROOT / "config" / "train").glob("*.yaml"))[:3]:
        files += list(mutations(config.read_bytes(), random.Random(4), examples(80, 3000)))
    assert _tally("training config", files, read)["refused"] > 0


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    from sdstrack_ros.parameters.checks import settings_from_yaml
    from sdstrack_ros.parameters.spec import ParameterError

    trace = tmp_path / "ran"
    path = tmp_path / "node.yaml"
    path.write_text(f"!!python/object/apply:os.system ['touch {trace}']")
    with pytest.raises(ParameterError):
        settings_from_yaml(path)
    assert not trace.exists()


# Weights.


@pytest.fixture(scope="module")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("torch")
    from ckd_core.models.checkpoint import metadata_of, save_model
    from ckd_core.models.registry import build_model

    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    model = build_model("sdstrack_tiny_test", seed=3)
    save_model(path, model, metadata_of(model, ["depth", "thermal"], "seeded random numbers"))
    return path


def test_damaged_weights_are_never_used(tiny_weights: Path, tmp_path: Path) -> None:
    """A weight file is used whole and unchanged, or not at all: every single damage is found."""
    from ckd_core.models.checkpoint import load_model

    whole = tiny_weights.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    source = random.Random(5)
    path = tmp_path / "damaged.safetensors"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_model(path)

    # Half of the damage goes to the header: there the parser has something to get wrong.
    count = examples(80, 3000)
    files = [data + whole[header:] for data in mutations(whole[:header], source, count // 2)]
    files += list(mutations(whole, source, count // 2))
    outcomes = _tally("weights", [data for data in files if data != whole], read)
    assert outcomes["read"] == 0
    load_model(tiny_weights)


class _Bomb:
    """Pickles to a call of os.system that leaves a trace."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def _torch_file(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/byteorder", "little")
    return path


_STORAGE_TAIL = b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQ."


def _hostile_pickles(trace: Path) -> dict[str, bytes]:
    """Ways in which a pickle runs code in Python's own unpickler."""
    touch = f"touch {trace}"
    open_call = f"cbuiltins\nopen\n(S'{trace}'\nS'w'\ntR."
    return {
        "reduce": pickle.dumps({"net": _Bomb(touch)}),
        "reduce, protocol 0": pickle.dumps(_Bomb(touch), protocol=0),
        "eval": f"cbuiltins\neval\n(S\"__import__('os').system('{touch}')\"\ntR.".encode(),
        "open": open_call.encode(),
        "inst": f"(S'{touch}'\nios\nsystem\n.".encode(),
        "obj": f"(cos\nsystem\nS'{touch}'\no.".encode(),
        "dotted name": b"\x80\x04\x8c\x0bcollections\x8c\x1fOrderedDict.__init__.__globals__\x93.",
        "torch.load": f"ctorch\nload\n(S'{trace}'\ntR.".encode(),
        "subprocess": f"csubprocess\nPopen\n((lS'touch'\naS'{trace}'\natR.".encode(),
        "ext registry": b"\x80\x02\x82\x01.",
        "storage of a live class": b"\x80\x02(X\x07\x00\x00\x00storagecos\nsystem\n" + _STORAGE_TAIL,
    }


def test_hostile_pickle_never_runs(tmp_path: Path) -> None:
    """In no layout and through no door: converted, given as weights, or as a training checkpoint."""
    from ckd_core.models.checkpoint import load_model
    from ckd_core.models.torch_files import read_foreign
    from ckd_core.training.state_file import load_checkpoint

    trace = tmp_path / "ran"
    # The pickles are live ammunition: one of them, read by Python itself, does leave its trace.
    pickle.loads(_hostile_pickles(trace)["reduce"])  # noqa: S301  # that this runs is what is shown
    assert trace.exists()
    trace.unlink()
    doors = (read_foreign, load_model, load_checkpoint)
    tried = 0
    for name, content in _hostile_pickles(trace).items():
        files = (_torch_file(tmp_path / "new.pth.tar", content), tmp_path / "old.pth.tar")
        files[1].write_bytes(content)
        legacy = tmp_path / "legacy.pth.tar"
        legacy.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(1001) + pickle.dumps({}) + content)
        for door in doors:
            for file in (*files, legacy):
                tried += 1
                with contextlib.suppress(TrackingError):
                    door(file)
                assert not trace.exists(), f"{name} ran through {door.__name__}"
    record("fuzz", "hostile pickles (files)", {"tried": tried, "ran": 0})


_FOREIGN_SCRIPT = """
import random, resource, sys
from pathlib import Path
import torch
from ckd_core.errors import TrackingError
from ckd_core.models.torch_files import read_foreign
from testkit.reliability.messages import mutations

count, folder = int(sys.argv[1]), Path(sys.argv[2])
resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
outcomes = {"read": 0, "refused": 0}
path = folder / "damaged.pth.tar"
for seed, name in enumerate(("new", "legacy")):
    whole = (folder / name).read_bytes()
    for data in mutations(whole, random.Random(seed), count // 2):
        path.write_bytes(data)
        try:
            read_foreign(path)
            outcomes["read"] += 1
        except TrackingError:
            outcomes["refused"] += 1
print(outcomes["read"], outcomes["refused"])
"""


def test_damaged_published_files(tmp_path: Path) -> None:
    """Damaged torch files in a process with bounded memory: no crash, no other error."""
    torch = pytest.importorskip("torch")
    content = {
        "net": {"a.weight": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(5, dtype=torch.int64)},
        "epoch": 3,
    }
    torch.save(content, tmp_path / "new")
    torch.save(content, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    environment = dict(os.environ, PYTHONPATH=str(ROOT))
    count = examples(600)
    done = subprocess.run(
        [sys.executable, "-c", _FOREIGN_SCRIPT, str(count), str(tmp_path)],
        env=environment, capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    read, refused = map(int, done.stdout.split())
    assert read + refused == count // 2 * 2
    assert refused > 0
    record("fuzz", "published checkpoint (files)", {"read": read, "refused": refused})


# Recordings.


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damaged_recordings(storage: str, tmp_path: Path) -> None:
    from sdstrack_ros.bags.storage.opening import open_bag
    from sdstrack_ros.bags.writer import write_bag
    from testkit.bags.scenes import read_frames

    random_numbers = np.random.default_rng(1)
    frames = [
        MultiModalFrame(
            i / 30,
            random_numbers.integers(0, 255, (12, 16, 3), dtype=np.uint8),
            random_numbers.integers(0, 4000, (12, 16)).astype(np.uint16),
            Modality.DEPTH,
        )
        for i in range(6)
    ]
    bag = write_bag(tmp_path / "bag", frames, [BoundingBox(1, 2, 5, 5)] * 6, storage=storage)
    file = next(path for path in bag.iterdir() if path.suffix in (".mcap", ".db3"))
    whole = file.read_bytes()

    def read(data: bytes) -> None:
        file.write_bytes(data)
        with open_bag(bag) as opened:
            assert opened.describe()
        list(read_frames(bag, Modality.DEPTH))

    outcomes = _tally(f"{storage} recording", list(mutations(whole, random.Random(6), examples(100, 2000))), read)
    assert outcomes["refused"] > 0
    metadata = bag / "metadata.yaml"
    text = metadata.read_bytes()
    file.write_bytes(whole)

    def read_with(data: bytes) -> None:
        metadata.write_bytes(data)
        assert len(list(read_frames(bag, Modality.DEPTH))) == len(frames)

    damaged = list(mutations(text, random.Random(7), examples(60, 1000)))
    # The storage file decides, so damaged metadata costs nothing, unless it names files that are not there.
    assert _tally(f"{storage} recording's metadata", damaged, read_with)["read"] > 0
