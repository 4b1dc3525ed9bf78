"""One function per parser that reads what comes from outside, for coverage-guided fuzzing: bytes in, no surprise out.

Each may refuse its input with the package's own error; any other exception, a hang, or more than 2 GB is a find. The
functions need no fuzzer: the committed inputs in test/reliability/corpus run through them in `make test`.
"""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from ckd_core.errors import TrackingError

if TYPE_CHECKING:
    from collections.abc import Callable

CORPUS = Path(__file__).parents[2] / "test" / "reliability" / "corpus"
MAX_IMAGE_BYTES = 64_000_000
_HEADER = struct.Struct("<BBHHHB")
_FORMS = (
    "rgb8; png compressed bgr8", "rgb8; jpeg compressed bgr8", "16UC1; compressedDepth png",
    "32FC1; compressedDepth png", "16UC1; compressedDepth rvl", "bayer_rggb8; png compressed ", "webp", "tiff",
)  # fmt: skip


def image_codec(data: bytes) -> None:
    """A raw image: a line with its encoding, then modality, size and byte order, then pixels."""
    from ckd_core.frame import Modality
    from sdstrack_ros.messages.image_codec import decode

    encoding, _, rest = data.partition(b"\n")
    if len(rest) < _HEADER.size:
        return
    _, kind, width, height, step, big = _HEADER.unpack_from(rest)
    message = SimpleNamespace(
        encoding=encoding.decode("utf-8", "replace"), width=width, height=height, step=step, is_bigendian=big & 1,
        data=rest[_HEADER.size :],
    )  # fmt: skip
    decoded = decode(message, "cam", MAX_IMAGE_BYTES)
    assert decoded.pixels.size > 0
    modality = list(Modality)[kind % len(Modality)]
    for use in (decoded.color, lambda: decoded.auxiliary(modality)):
        try:
            assert use().shape[:2] == (height, width)
        except TrackingError:
            continue


def compressed_image(data: bytes) -> None:
    """A compressed image: which format, then the payload."""
    from sdstrack_ros.messages.image_codec import decode

    if data:
        message = SimpleNamespace(format=_FORMS[data[0] % len(_FORMS)], data=data[1:])
        decoded = decode(message, "cam", MAX_IMAGE_BYTES)
        assert decoded.pixels.size > 0
        if decoded.order != "raw":
            decoded.color()


def event_window(data: bytes) -> None:
    """Event packets of one sensor, one after the other: encoding, size, length, events."""
    from sdstrack_ros.messages.event_window import EventWindow

    window, at, seq = EventWindow(capacity=5000), 0, 0
    encodings = ("mono", "evt3", "libcaer", "evt2")
    while at + _HEADER.size <= len(data):
        which, big, width, height, length, _ = _HEADER.unpack_from(data, at)
        at += _HEADER.size
        seq += 1
        stamp = SimpleNamespace(sec=1_700_000_000 + seq, nanosec=0)
        packet = SimpleNamespace(
            encoding=encodings[which % len(encodings)], width=width, height=height, seq=seq, time_base=seq,
            is_bigendian=bool(big & 1), events=data[at : at + length],
            header=SimpleNamespace(stamp=stamp, frame_id="events"),
        )  # fmt: skip
        at += length
        try:
            window.add(packet)
        except TrackingError:
            continue
        assert len(window) <= 5000
        events = window.between(0, 2**62)
        assert len(events) == len(window)
        assert (events.x < events.width).all()
        assert (events.y < events.height).all()


def box_files(data: bytes) -> None:
    """A file of boxes, and a box as an option."""
    from ckd_core.boxes import parse_box
    from ckd_core.data.box_files import parse_table

    text = data.decode("utf-8", "replace")
    for parse in (lambda: parse_table(text, "fuzz.txt"), lambda: parse_box(text[:100])):
        try:
            parse()
        except TrackingError as error:
            check_text(error)


def archives(data: bytes) -> None:
    """An archive of results: zip or tar by the first byte."""
    from ckd_core.evaluation.scoring.raw_results import read_results

    if data:
        read_results(_written(data[1:], "results.zip" if data[0] & 1 else "results.tar.gz"), ["a", "b"])


def safetensors_header(data: bytes) -> None:
    """A weight file with this header and as many zeros as fit it."""
    from ckd_core.models.checkpoint import load_model, load_tensors

    path = _written(struct.pack("<Q", len(data)) + data + bytes(64), "weights.safetensors")
    try:
        load_model(path)
    except TrackingError as error:
        check_text(error)
    load_tensors(path)


def checkpoint_reader(data: bytes) -> None:
    """A published weight file."""
    from ckd_core.models.torch_files import read_foreign, state_dict_of

    content, _ = read_foreign(_written(data, "published.pth.tar"))
    state_dict_of(content)


def yaml_settings(data: bytes) -> None:
    """A training recipe, and a parameter file of the node."""
    from ckd_core.settings import read_settings
    from ckd_core.training.config import TrainSettings
    from sdstrack_ros.parameters.checks import settings_from_yaml

    path = _written(data, "settings.yaml")
    for read in (lambda: read_settings(path, TrainSettings), lambda: settings_from_yaml(path)):
        try:
            read()
        except TrackingError as error:
            check_text(error)


def bag_storage(data: bytes) -> None:
    """A recording in one file: mcap or sqlite3 by the first byte."""
    from ckd_core.frame import Modality
    from testkit.bags.scenes import read_frames

    if data:
        for _ in read_frames(_written(data[1:], "bag.mcap" if data[0] & 1 else "bag.db3"), Modality.THERMAL):
            continue


def raw_events(data: bytes) -> None:
    """A Prophesee RAW file, header and events."""
    from ckd_core.data.event_files import RawEvents

    raw = RawEvents(_written(data, "events.raw"))
    last_s = 0.0
    for part in raw.slices(30.0):
        assert not len(part.x) or (part.x.max() < raw.header.width and part.y.max() < raw.header.height)
        assert not len(part.t) or last_s <= part.t[0] <= part.t[-1]
        last_s = float(part.t[-1]) if len(part.t) else last_s


def mcap_recovery(data: bytes) -> None:
    """A damaged MCAP file, of which the whole messages are copied and read."""
    from sdstrack_ros.bags.storage.opening import open_bag
    from sdstrack_ros.bags.storage.recovery import recovered

    with recovered(_written(data, "damaged.mcap")) as (path, _), open_bag(path) as bag:
        for message in bag.messages([topic.name for topic in bag.topics]):
            assert len(message.data) <= max(len(data) * 256, 1 << 30)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        image_codec, compressed_image, event_window, box_files, archives, safetensors_header, checkpoint_reader,
        yaml_settings, bag_storage, raw_events, mcap_recovery,
    )
}  # fmt: skip
# What is instrumented beside the package itself.
LIBRARIES = {"bag_storage": ["rosbags"], "mcap_recovery": ["rosbags"], "yaml_settings": ["yaml"]}
MAX_LENGTH = {"bag_storage": 40960, "mcap_recovery": 40960, "checkpoint_reader": 8192, "archives": 4096}

_folder: list[Any] = []


def _written(data: bytes, name: str) -> Path:
    """The bytes as a file of this process, in memory where that is possible."""
    if not _folder:
        memory = Path("/dev/shm")  # a folder of its own in it
        _folder.append(tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None))
    path = Path(_folder[0].name) / name
    path.write_bytes(data)
    return path


def try_input(name: str, data: bytes) -> bool:
    """Run one input; returns whether it was read, and not refused."""
    try:
        TARGETS[name](data)
    except TrackingError as error:
        check_text(error)
        return False
    return True


def check_text(error: TrackingError) -> None:
    """A refusal is one short line that a terminal may show, whatever the input said."""
    text = str(error)
    assert text.isprintable(), text
    assert 0 < len(text) < 2000, len(text)
