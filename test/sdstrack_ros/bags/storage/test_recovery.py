"""Truncated MCAP files: what is whole is read, and said; without the option they are refused by its name."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdstrack_ros.bags.evaluate import EvaluateRequest, evaluate
from sdstrack_ros.bags.storage import recovery
from sdstrack_ros.bags.storage.opening import BagError, open_bag
from sdstrack_ros.bags.storage.recovery import recovered
from testkit.bags.faults import TOPICS, Recipe, make_recording


def content(path: Path) -> list[tuple[str, int, bytes]]:
    with open_bag(path) as bag:
        return [(message.topic, message.time_ns, message.data) for message in bag.messages(TOPICS)]


def storage_file(folder: Path) -> Path:
    return next(folder.glob("*.mcap"))


@pytest.mark.parametrize("compression", ["none", "message", "storage"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.999])
def test_the_whole_messages_of_a_cut_file_are_read_and_counted(tmp_path: Path, compression: str, share: float) -> None:
    path, written = make_recording(tmp_path, Recipe("mcap", compression, pairs=9))
    file = storage_file(path)
    data = file.read_bytes()
    file.write_bytes(data[: round(len(data) * share)])
    with pytest.raises(BagError, match="--recover"):
        content(path)
    try:
        with recovered(path) as (copy, said):
            read = content(copy)
            assert copy.name == path.name
    except BagError as error:
        assert "holds no whole message" in str(error)
        assert compression == "storage", "zstd gives nothing of a block that is cut"
        return
    assert read == written[: len(read)]
    assert len(read) >= len(written) * share - 5
    assert said == (
        f"{file.name} is damaged or truncated: {len(read)} whole messages were recovered; the rest is missing",
    )
    assert file.read_bytes() == data[: round(len(data) * share)], "the recording stays as it was"


@settings(max_examples=60, deadline=None)
@given(
    compression=st.sampled_from(["none", "message", "storage"]),
    cut=st.floats(0, 1),
    changed=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), max_size=4),
)
def test_whatever_is_left_of_a_file_gives_messages_that_were_written_or_a_refusal(
    compression: str, cut: float, changed: list[tuple[float, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, written = make_recording(Path(folder), Recipe("mcap", compression, pairs=4))
        file = storage_file(path)
        data = bytearray(file.read_bytes()[: max(round(file.stat().st_size * cut), 8)])
        for at, value in changed:
            data[8 + int(at * (len(data) - 8)) if len(data) > 8 else 0] = value
        file.write_bytes(data)
        try:
            with recovered(path) as (copy, said), open_bag(copy) as bag:
                topics = [topic.name for topic in bag.topics]
                read = [m.data for m in bag.messages(topics)]
        except BagError as error:
            assert len(str(error)) > 20
            return
        assert len(read) <= len(written)
        if not changed:
            assert set(read) <= {data for _, _, data in written}
            assert bool(said) == (len(read) < len(written)) or cut > 0.5


def test_chunks_that_state_absurd_sizes_are_lost_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, written = make_recording(tmp_path, Recipe("mcap", "storage", pairs=9))
    file = storage_file(path)
    file.write_bytes(file.read_bytes()[:-200])
    monkeypatch.setattr(recovery, "MAX_CHUNK_BYTES", 1000)
    with pytest.raises(BagError, match="holds no whole message"), recovered(path):
        pass
    monkeypatch.undo()
    with recovered(path) as (copy, _):
        assert content(copy) == written


def test_a_part_of_a_split_recording_is_recovered_and_the_others_stay(tmp_path: Path) -> None:
    path, written = make_recording(tmp_path, Recipe("mcap", parts=3, pairs=9))
    middle = sorted(path.glob("*.mcap"))[1]
    data = middle.read_bytes()
    middle.write_bytes(data[: len(data) // 2])
    with recovered(path) as (copy, said):
        read = content(copy)
    assert len(written) - 6 <= len(read) < len(written)
    assert set(read) < set(written)
    assert [text.partition(" is ")[0] for text in said] == [middle.name]


def test_a_whole_recording_is_read_as_it_is_and_others_are_refused(tmp_path: Path) -> None:
    whole, _ = make_recording(tmp_path, Recipe("mcap"))
    with recovered(whole) as (path, said):
        assert (path, said) == (whole, ())
    broken, _ = make_recording(tmp_path / "b", Recipe("sqlite3", fault="cut"))
    with pytest.raises(BagError), recovered(broken):
        pass
    empty = tmp_path / "empty.mcap"
    empty.write_bytes(b"\x89MCAP0\r\n")
    with pytest.raises(BagError, match="holds no whole message"), recovered(empty):
        pass


def test_evaluate_says_what_it_recovered(tmp_path: Path) -> None:
    path, _ = make_recording(tmp_path, Recipe("mcap", pairs=9))
    file = storage_file(path)
    file.write_bytes(file.read_bytes()[:-2500])
    lines = evaluate(EvaluateRequest(path, init_box="4,4,8,8", recover=True, overrides={"sync_policy": "tolerant"}))
    first = next(lines)
    assert "whole messages were recovered" in first
    lines.close()
