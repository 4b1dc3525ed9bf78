"""Files that cannot be read: pipes that would block for ever, devices without an end, failing disks, no permission.

And names that are no text.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckd_core.data.box_files import read_table
from ckd_core.data.datasets import open_dataset
from ckd_core.data.event_files import read_header
from ckd_core.data.sequences import open_sequence, read_color
from ckd_core.errors import TrackingError
from ckd_core.evaluation.scoring.raw_results import read_results
from ckd_core.frame import Modality
from ckd_core.models.checkpoint import load_model
from ckd_core.replay.recording import open_recording
from ckd_core.settings import load_yaml
from sdstrack_ros.bags.storage.opening import open_bag
from sdstrack_ros.parameters.checks import settings_from_yaml
from testkit.small_scenes import write_scene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[2]


def opened(path: Path) -> None:
    """Open a recording of the node."""
    with open_bag(path):
        pass


READERS: dict[str, Callable[[Path], object]] = {
    "recipe.yaml": load_yaml,
    "params.yaml": settings_from_yaml,
    "weights.safetensors": load_model,
    "image.png": read_color,
    "boxes.txt": read_table,
    "results.zip": lambda path: read_results(path, ["a"]),
    "results.tar.gz": lambda path: read_results(path, ["a"]),
    "events.raw": read_header,
    "bag.mcap": opened,
    "bag.db3": opened,
    "clip.mp4": lambda path: next(iter(open_recording([str(path)], Modality.THERMAL).frames())),
}


@pytest.mark.parametrize("device", [None, "/dev/zero"])
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_or_an_endless_device_in_place_of_a_file_is_refused(
    name: str, device: str | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    if device is None:
        os.mkfifo(path)
    else:
        path.symlink_to(device)
    with pytest.raises(TrackingError, match=name):
        READERS[name](path)


@contextmanager
def without_rights(path: Path) -> Iterator[None]:
    """The file may not be read; root, who may read everything, is somebody else meanwhile."""
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may search; pytest's own are for its user alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("name", READERS)
def test_a_file_that_may_not_be_read_is_refused_by_name(name: str, open_folder: Path) -> None:
    path = open_folder / name
    path.write_bytes(b"x" * 1000)
    with without_rights(path), pytest.raises(TrackingError, match=name):
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_place_of_a_file_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(TrackingError, match=name):
        READERS[name](tmp_path / name)


@pytest.mark.parametrize("name", READERS)
def test_a_disk_that_fails_is_refused_by_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("/proc/self/mem")  # a regular file whose first byte ends in EIO
    with pytest.raises(TrackingError, match=name):
        READERS[name](tmp_path / name)


def test_a_pipe_among_the_files_of_a_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    os.mkfifo(tmp_path / "bag" / "bag_0.mcap")
    with pytest.raises(TrackingError, match="pipe"):
        opened(tmp_path / "bag")
    os.mkfifo(tmp_path / "bag" / "metadata.yaml")
    with pytest.raises(TrackingError):
        opened(tmp_path / "bag")


def test_a_sequence_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/place\xe9"))
    write_scene(tmp_path / "a").rename(folder)
    with pytest.raises(TrackingError, match=r"place\\udce9 is not UTF-8; rename"):
        open_sequence(folder)
    with pytest.raises(TrackingError, match=r"place\\udce9 is not UTF-8; rename"):
        open_dataset("folder", tmp_path)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        (b"place\xe9", "place\\udce9 is not UTF-8, as every name here has to be"),
        (b"a\nerror: forged\x1b[2J", r"a\nerror: forged\x1b[2J has control characters, as no name here may"),
    ],
)
def test_an_argument_that_is_no_text_is_refused_in_one_sentence(word: bytes, said: str) -> None:
    words = [sys.executable, "-m", "ckd_core.cli", "score", word]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"error: {said}; rename it\n")
