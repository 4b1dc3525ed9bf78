"""`sdstrack evaluate` is the node's path: every recording of the suite, played into the node, gives the same counts.

The kinds of cameras are played in the normal form. The long form also runs the tests that make recordings, and plays
whatever they leave behind, with every fault of the generator.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle_msgs.msg import Transition

from ckd_core.errors import TrackingError
from ckd_core.frame import BoundingBox, Modality
from sdstrack_ros.bags.frames import BagTopics, choose_topics, read_bag_frames
from sdstrack_ros.bags.player import MAX_GAP_S, play
from sdstrack_ros.bags.storage.files import storage_suffix
from sdstrack_ros.bags.storage.opening import COMPRESSED_IMAGE, EVENT_PACKET, IMAGE, Bag, BagError, open_bag
from sdstrack_ros.messages.stamps import NS_PER_S
from sdstrack_ros.node.health import Situation
from sdstrack_ros.node.inputs.image_topics import ImageTopics
from sdstrack_ros.node.status import StatusReporter
from sdstrack_ros.parameters.checks import settings_from
from sdstrack_ros.sync.types import SyncConfig, SyncCounters
from testkit.bags.cameras import AUX, KINDS, RGB, record
from testkit.bags.faults import BROKEN, STORAGES, WHOLE, Recipe, make_recording
from testkit.reliability.lengths import LONG
from testkit.ros.processes import ChildProcessFailure
from testkit.ros.rig import Rig, running_node

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sdstrack_ros.tracking.source_frame import SourceFrame
    from testkit.ros.camera import RosTest

pytestmark = pytest.mark.ros
# A machine under load delivers late; with a long wait no pair is missed for that.
WAIT_S = 1.0
LOSSLESS = {"input_reliability": "reliable", "input_depth": 100}  # what is lost on its way, no side can count
BOX = BoundingBox(4.0, 3.0, 6.0, 5.0)


@pytest.fixture(scope="module")
def rig(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    parameters = {
        "max_wait_s": WAIT_S, "rgb_topic": RGB, "aux_topic": AUX, "confidence": False, "publish_3d": False,
        **LOSSLESS, "autostart": True, "init_box": str([float(v) for v in BOX]),
    }  # fmt: skip
    with running_node(tiny_weights, tmp_path_factory.mktemp("node"), **parameters) as running:
        yield running


def from_recording(path: Path) -> dict[str, int]:
    """The counts of a recording of `RGB` and `AUX`."""
    with open_bag(path) as bag:
        topics = {topic.name for topic in bag.topics}
        return counts_of(bag, BagTopics(RGB, AUX if AUX in topics else ""), Modality.DEPTH)


def counts_of(bag: Bag, topics: BagTopics, modality: Modality) -> dict[str, int]:
    counters: list[SyncCounters] = []
    rejected: Counter[str] = Counter()
    frames = read_bag_frames(
        bag,
        topics,
        modality,
        SyncConfig(max_wait_s=WAIT_S),
        on_reject=lambda rejection: rejected.update([rejection.stream]),
        counters=counters.append,
    )
    for frame in frames:
        del frame
    counted = {f"sync.{name}": n for name, n in asdict(counters[0]).items() if name != "nearest_miss_ns"}
    return {**counted, "rgb.rejected": rejected["rgb"], "aux.rejected": rejected["aux"]}


class InputSide:
    """The node's own topics, guard, synchronizer and decoder, without a network behind them."""

    def __init__(self, ros: RosTest, **parameters: Any) -> None:
        self.reporter = StatusReporter(ros.node, lambda now: (Situation("active"), {}))
        given = {"rgb_topic": RGB, "aux_topic": AUX, "max_wait_s": WAIT_S, **LOSSLESS, **parameters}
        settings = settings_from(given)
        self.topics = ImageTopics(ros.node, settings, self.reporter, self._decode, lambda seconds, stamp_ns: None)

    def _decode(self, source: SourceFrame) -> None:
        with contextlib.suppress(TrackingError):
            source.images()

    def counts(self) -> dict[str, int]:
        streams = self.reporter.health.streams(time.monotonic())
        counted = {f"sync.{name}": n for name, n in self.topics.counters.items() if name != "nearest_miss_ns"}
        aux = streams["events" if "events" in streams else "aux"].rejected
        return {**counted, "rgb.rejected": streams["rgb"].rejected, "aux.rejected": aux}


def played(
    ros: RosTest,
    path: Path,
    expected: dict[str, int],
    topics: tuple[str, ...] = (),
    patience_s: float = 60.0,
    **parameters: Any,
) -> dict[str, int]:
    """What the node's input counts while these topics of a recording are played, as soon as it is what is expected."""
    node = InputSide(ros, **parameters)
    try:
        options = {"wait_s": 30.0, "clock": False, "topics": topics}
        player = threading.Thread(target=play, args=(path,), kwargs=options)
        player.start()
        deadline = time.monotonic() + patience_s
        while player.is_alive() or (node.counts() != expected and time.monotonic() < deadline):
            ros.spin(0.02)
        player.join()
        return node.counts()
    finally:
        node.topics.destroy()


@pytest.mark.parametrize("kind", KINDS)
def test_the_node_counts_as_evaluate_does(ros: RosTest, tmp_path: Path, kind: str) -> None:
    path = record(tmp_path / "bag", *KINDS[kind])
    expected = from_recording(path)
    assert played(ros, path, expected) == expected


@pytest.mark.parametrize("kind", ["in step", "stamps missing", "truncated"])
def test_the_whole_node_counts_so_too(rig: Rig, tmp_path: Path, kind: str) -> None:
    path = record(tmp_path / "bag", *KINDS[kind])
    expected = from_recording(path)
    rig.ros.until(lambda: rig.ros.value("lifecycle") == "active", 240, "an active node", rig.process)

    def live() -> dict[str, int]:
        return {name: int(rig.ros.value(name) or 0) for name in expected}

    assert rig.ros.transition(Transition.TRANSITION_DEACTIVATE)
    assert rig.ros.transition(Transition.TRANSITION_ACTIVATE)
    rig.ros.until(lambda: rig.ros.value("lifecycle") == "active", 60, "an active node", rig.process)
    dropped = rig.settled("frames.dropped")

    def agree() -> bool:
        """A frame that a busy node has to drop is never decoded, so that its faults are not counted."""
        missed, counts = rig.ros.count("dropped") - dropped, live()
        decoded = [name for name in expected if name.endswith(".rejected")]
        return all(
            min(1, expected[name]) <= counts[name] <= expected[name] <= counts[name] + missed
            if name in decoded
            else counts[name] == expected[name]
            for name in expected
        )

    assert play(path, wait_s=30.0, clock=False).passes == 1
    try:
        rig.until(agree, f"the counts {expected}")
    except ChildProcessFailure as error:
        raise AssertionError(f"live: {live()}\nrecorded: {expected}") from error


def test_the_kinds_differ_in_what_becomes_of_them(tmp_path: Path) -> None:
    outcomes: dict[str, Any] = {kind: from_recording(record(tmp_path / kind, *KINDS[kind])) for kind in KINDS}
    assert outcomes["in step"]["sync.paired"] == 30
    assert outcomes["no stamps"]["rgb.rejected"] == 30
    assert outcomes["truncated"]["aux.rejected"] == 15
    assert outcomes["each image twice"]["sync.color_duplicate"] == 30
    assert outcomes["another clock ahead"]["sync.color_alone"] == 30


# Every test that leaves recordings behind; that of the generator removes its own, which are made here again.
MAKERS = (
    "test/sdstrack_ros/bags", "test/sdstrack_ros/sync/test_pair_watch.py", "test/sdstrack_ros/test_doctor.py",
    "test/sdstrack_ros/messages/test_event_encoder.py",
)  # fmt: skip
ROOT = Path(__file__).parents[4]


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of everything that the suite's tests of recordings wrote, and of the generator's faults."""
    if not LONG:
        pytest.skip("the recordings of the whole suite are played in the long form (make test-all)")
    folder = tmp_path_factory.mktemp("suite")
    words = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'tests'}", *MAKERS]
    environment = {**os.environ, "SDSTRACK_LONG": "", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT, env=environment, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    for number, (storage, fault) in enumerate((storage, fault) for storage in STORAGES for fault in (*WHOLE, *BROKEN)):
        for parts in (1, 3):
            recipe = Recipe(storage, parts=parts, fault=fault)
            if recipe.possible:
                make_recording(folder / "faults" / f"{number}-{parts}", recipe)
    return folder


def recordings_below(folder: Path) -> list[Path]:
    """Folders with storage files, each content once."""
    found: dict[str, Path] = {}
    for parent in sorted({path.parent for path in folder.rglob("*") if path.is_file() and storage_suffix(path)}):
        digest = hashlib.sha256()
        for path in sorted(parent.iterdir()):
            if path.is_file():
                digest.update(path.name.encode() + path.read_bytes())
        found.setdefault(digest.hexdigest(), parent)
    return list(found.values())


def as_the_node_reads(bag: Bag) -> tuple[Modality, BagTopics]:
    """Modality and topics as a user would set them: by name, else the first two topics of images."""
    for modality in Modality:
        with contextlib.suppress(BagError):
            topics = choose_topics(bag, modality)
            if topics.rgb and topics.aux:
                return modality, topics
    images = [topic.name for topic in bag.topics if topic.type_name in (IMAGE, COMPRESSED_IMAGE)]
    return Modality.DEPTH, BagTopics(*images[:2])


def parameters_for(bag: Bag, topics: BagTopics, modality: Modality) -> dict[str, Any]:
    types = {topic.name: topic.type_name for topic in bag.topics}
    compressed = COMPRESSED_IMAGE in (types.get(topics.rgb), types.get(topics.aux))
    packets = types.get(topics.aux) == EVENT_PACKET
    rgb, aux = (re.sub("/compressed(Depth)?$", "", name) if compressed else name for name in (topics.rgb, topics.aux))
    return {
        "modality": modality.value, "rgb_topic": rgb or "/no/color", "transport": "compressed" if compressed else "raw",
        "events_topic" if packets else "aux_topic": aux or "/no/aux", "event_input": "packets" if packets else "image",
    }  # fmt: skip


ATTEMPTS = 3


def test_every_recording_of_the_suite_counts_alike(ros: RosTest, left_behind: Path) -> None:
    """Read as often as the node receives, or refused by both in the same words.

    A message that is none of its type ends `evaluate`; live, the middleware drops it without a word.
    """
    outcomes: Counter[str] = Counter()
    differ = []
    for path in recordings_below(left_behind):
        try:
            with open_bag(path) as bag:
                modality, topics = as_the_node_reads(bag)
                chosen = tuple(topic for topic in (topics.rgb, topics.aux) if topic)
                if not chosen or bag.end_ns <= bag.start_ns:
                    outcomes["without images, or of a single moment"] += 1
                    continue
                parameters = parameters_for(bag, topics, modality)
        except BagError as error:
            outcomes["refused by both"] += 1
            with pytest.raises(BagError, match=re.escape(str(error))):
                play(path)
            continue
        with open_bag(path) as bag:
            try:
                expected = counts_of(bag, topics, modality)
            except BagError:
                outcomes["with a message that is none"] += 1
                continue
            times = [message.time_ns for message in bag.messages(list(chosen))]
        if not times:
            outcomes["without images, or of a single moment"] += 1
            continue
        if max((later - time for time, later in pairwise(times)), default=0) > MAX_GAP_S * NS_PER_S:
            outcomes["with a gap that the player cuts"] += 1  # stamps then jump, and the node says so
            continue
        outcomes["played"] += 1
        live = played(ros, path, expected, chosen, 20, **parameters)
        for _ in range(ATTEMPTS - 1):  # a busy machine mixes the order of two topics up
            live = live if live == expected else played(ros, path, expected, chosen, 20, **parameters)
        if live != expected:
            changed = {key: (value, live[key]) for key, value in expected.items() if live[key] != value}
            differ.append(f"{path.relative_to(left_behind)} {parameters}: (recorded, live) {changed}")
    print(dict(outcomes))
    assert not differ, "\n".join(differ)
    assert outcomes["played"] > 60
    assert outcomes["refused by both"] > 10
    assert outcomes["with a message that is none"] < 5
    assert outcomes["with a gap that the player cuts"] < 10
