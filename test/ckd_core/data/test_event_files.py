"""Prophesee RAW files: what is read, skipped and counted, refused."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ckd_core.data.event_files import EventFileError, RawEvents, read_header
from ckd_core.frame import Modality
from ckd_core.modality import Events
from ckd_core.replay.recording import ReplayError, open_recording

HEADER = b"% date 2024-01-01 10:00:00\n% evt 3.0\n% format EVT3;height=720;width=1280\n% geometry 1280x720\n% end\n"
HEADER2 = b"% evt 2.0\n% geometry 640x480\n"


def evt3(t_us: int, x: int, y: int, on: bool) -> list[int]:
    """The words of one event, the sensor's state in full."""
    return [0x8000 | (t_us >> 12 & 0xFFF), 0x6000 | (t_us & 0xFFF), y, 0x2000 | (on << 11) | x]


def evt2(t_us: int, x: int, y: int, on: bool) -> list[int]:
    return [0x80000000 | (t_us >> 6), (on << 28) | ((t_us & 0x3F) << 22) | (x << 11) | y]


MAKERS = {"evt3": (HEADER, evt3, "<u2"), "evt2": (HEADER2, evt2, "<u4")}


def write(path: Path, encoding: str, events: list[tuple[int, int, int, bool]], extra: tuple[int, ...] = ()) -> Path:
    header, make, kind = MAKERS[encoding]
    words = [word for event in events for word in (*make(*event), *extra)]
    path.write_bytes(header + np.array(words, kind).tobytes())
    return path


def read(path: Path) -> tuple[list[tuple[int, int, int, int]], RawEvents]:
    raw = RawEvents(path)
    found = []
    for part in raw.pieces():
        found += list(
            zip(
                np.rint(part.t * 1e6).astype(int).tolist(),
                part.x.tolist(),
                part.y.tolist(),
                part.p.tolist(),
                strict=True,
            )
        )
    return found, raw


@pytest.mark.parametrize("encoding", MAKERS)
@pytest.mark.parametrize("extra", [(), "vendor"])
def test_events_are_read_and_vendor_words_are_skipped_and_counted(tmp_path: Path, encoding: str, extra: str) -> None:
    sent = [(5_000_000 + i * 250, i % 640, (7 * i) % 480, i % 3 == 0) for i in range(4000)]
    strange = {"evt3": (0x9123, 0x1FFF, 0xB000, 0xC001, 0xD00D), "evt2": (0x90000001, 0x20000000)}[encoding]
    path = write(tmp_path / "a.raw", encoding, sent, strange if extra else ())
    got, raw = read(path)
    assert got == [(t - 5_000_000, x, y, int(on)) for t, x, y, on in sent]
    assert raw.skipped == (4000 * len(strange) if extra else 0)
    assert bool(raw.remarks()) == bool(extra)
    if extra:
        assert f"words of types that {encoding.upper()} does not define were skipped" in raw.remarks()[0]


@pytest.mark.parametrize("encoding", MAKERS)
def test_what_lies_outside_or_is_cut_off_is_counted(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.raw", encoding, [(10, 5, 5, True), (20, 2000, 5, True), (30, 6, 2000, True)])
    path.write_bytes(path.read_bytes() + b"\x01")
    got, raw = read(path)
    assert [event[1:3] for event in got] == [(5, 5)]
    assert raw.cut_bytes == 1
    assert any("the file is truncated" in text for text in raw.remarks())
    assert encoding == "evt3" or raw.outside == 2  # the package evt3 leaves them out itself


@pytest.mark.parametrize("jump_us", [-3_000_000, 11_000_000, 10_000_000_000])
def test_a_jump_of_the_clock_costs_no_time(tmp_path: Path, jump_us: int) -> None:
    first = [(4_000_000 + i * 100, 1, 1, True) for i in range(50)]
    second = [(4_005_000 + jump_us + i * 100, 1, 1, True) for i in range(50)]
    got, raw = read(write(tmp_path / "a.raw", "evt2", [*first, *second]))
    assert len(got) == 100
    assert got[-1][0] == 98 * 100
    assert raw.jumps == 1
    recording = open_recording([str(tmp_path / "a.raw")], None, 30.0)
    assert len(list(recording.frames())) == 1, "no frame for a time that never passed"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "begins with ''; expected a Prophesee RAW file"),
        (b"\x00\x01\x02", "begins with '000102'"),
        (b"% evt 3.0\n% geometry 99999x2\n", "99999 x 2 sensor; expected 1 to 2048"),
        (b"% evt 3.0\n% geometry 0x2\n", "0 x 2 sensor"),
        (b"% evt 3.0\n", "names no size"),
        (b"% format EVT21;height=10;width=10\n", "events in 'evt21'; expected EVT3 or EVT2"),
        (b"% geometry 4x4\n", r"events in 'evt\?'"),
        (b"% evt 3.0" + b"x" * 70_000, "does not end within 65536 bytes"),
        (b"% format \x1b[2J\n", r"events in '\S*x1b\[2j'|events in"),
    ],
)
def test_files_that_cannot_be_read_are_refused_by_name(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(data)
    with pytest.raises(EventFileError, match=reason) as refusal:
        read_header(path)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 400
    with pytest.raises(EventFileError, match="cannot read"):
        read_header(tmp_path / "none.raw")


@settings(max_examples=60, deadline=None)
@example(encoding="evt2", data=b"%", fps=1.0)
@given(
    encoding=st.sampled_from(["evt3", "evt2"]),
    data=st.binary(max_size=3000).filter(lambda data: not data.startswith(b"% ")),
    fps=st.floats(1, 200),
)
def test_any_bytes_give_events_in_order_and_frames_in_bounds(encoding: str, data: bytes, fps: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.raw"
        path.write_bytes(MAKERS[encoding][0] + data)
        raw = RawEvents(path)
        pieces = list(raw.pieces())
        t = np.concatenate([part.t for part in pieces]) if pieces else np.empty(0)
        assert (np.diff(t) >= 0).all()
        assert not len(t) or t[0] == 0
        assert all(part.x.max() < raw.header.width and part.y.max() < raw.header.height for part in pieces)
        slices = list(RawEvents(path).slices(fps))
        assert sum(len(part.t) for part in slices) == len(t)
        assert len(slices) <= len(data) * 10 * fps + 1


@pytest.mark.parametrize("encoding", MAKERS)
def test_run_draws_the_events_of_each_frame_beside_colour(tmp_path: Path, encoding: str) -> None:
    import cv2

    sent = [(1000 + i * 1000, i % 600, 100, True) for i in range(200)]  # a fifth of a second
    path = write(tmp_path / "a.raw", encoding, sent)
    for index in range(6):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.full((72, 128, 3), index, np.uint8))
    frames = list(open_recording([str(path)], None, 50.0).frames())
    assert len(frames) == 10
    assert {frame.modality for frame in frames} == {Modality.EVENT}
    for index, frame in enumerate(frames):
        assert frame.aux is not None
        rows, columns = np.nonzero((frame.aux == (255, 0, 0)).all(axis=2))
        assert set(rows.tolist()) == {100}
        assert columns.tolist() == list(range(index * 20, index * 20 + 20))
    both = list(open_recording([str(tmp_path / "*.png"), str(path)], None, 50.0).frames())
    assert [frame.presence for frame in both] == [(True, True)] * 6
    assert [int(np.asarray(frame.rgb)[0, 0, 0]) for frame in both] == list(range(6))
    with pytest.raises(ReplayError, match="holds events; expected --modality event"):
        open_recording([str(path)], Modality.DEPTH, 50.0)


def test_slices_hold_every_event_once(tmp_path: Path) -> None:
    sent = [(i * i, i % 600, 3, False) for i in range(1, 900)]
    raw = RawEvents(write(tmp_path / "a.raw", "evt2", sent))
    slices: list[Events] = list(raw.slices(100.0))
    assert [x for part in slices for x in part.x.tolist()] == [x for _, x, _, _ in sent]
    for index, part in enumerate(slices):
        assert ((part.t >= index / 100) & (part.t < (index + 1) / 100)).all()
