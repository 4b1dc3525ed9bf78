"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ckd_core.files import atomic_path, write_json, write_text


def names(folder: Path) -> list[str]:
    """Every name in a folder, hidden ones too."""
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "clip.mp4"
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".mp4"
        assert temporary.name.startswith(".clip.")
    assert path.read_bytes() == b"half"
    assert names(path.parent) == ["clip.mp4"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_leaves_the_earlier_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "boxes.csv"
    write_text(path, "earlier")
    with pytest.raises(type(error)), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "earlier"
    assert names(tmp_path) == ["boxes.csv"]


def test_a_failed_flush_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    write_text(path, "earlier")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with atomic_path(path) as temporary:  # flushes nothing unless it is told to
        temporary.write_text("second")
    with pytest.raises(OSError, match="No space left"), atomic_path(path, sync=True) as temporary:
        temporary.write_text("third")
    assert path.read_text() == "second"
    assert names(tmp_path) == ["state"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_mode_follows_the_umask_whatever_the_writer_does(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        write_text(tmp_path / "plain.txt", "text")
        with atomic_path(tmp_path / "replaced.safetensors") as temporary:
            save_file({"a": torch.zeros(2)}, temporary)
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_json_has_null_where_a_number_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [1.5, float("inf")], "z": (2,)})
    assert (tmp_path / "a.json").read_text() == '{\n "x": null,\n "y": [\n  1.5,\n  null\n ],\n "z": [\n  2\n ]\n}\n'


def test_text_keeps_its_line_ends(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "colour\r\n\u00e9\n")
    assert (tmp_path / "a.csv").read_bytes() == b"colour\r\n\xc3\xa9\n"
