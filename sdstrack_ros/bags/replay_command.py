"""What replay.launch.py plays, and by which program; needs rosbags only where metadata.yaml does not say enough."""

from __future__ import annotations

import importlib.util
import shutil
from typing import TYPE_CHECKING

from sdstrack_ros.bags.storage.metadata import read_metadata
from sdstrack_ros.parameters.spec import ParameterError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PLAYERS = ("auto", "ros2bag", "sdstrack")
CLOCK_HZ = 100
# A publisher and a subscription find each other within 0.3 to 0.6 s, on a busy machine later; `ros2 bag play` cannot
# wait for that, only for a time.
DISCOVERY_S = 2.0
# `sdstrack play` waits for the subscriptions themselves, which an active node has.
MAX_WAIT_S = 30.0
MAX_NAMES = 12


def recorded_topics(path: Path) -> Mapping[str, str] | None:
    """Return the message types of a recording's topics by name; None where they cannot be told.

    metadata.yaml is asked first: the storage files of a compressed recording would have to be unpacked.

    Raises:
        ParameterError: there is no such recording.
        BagError: the storage files cannot be read.
    """
    if not path.exists():
        raise ParameterError(f"argument 'bag': {path} does not exist; expected a rosbag2 folder, .mcap or .db3 file")
    metadata = read_metadata(path)[0] if path.is_dir() else None
    if metadata is not None:
        return {name: topic.type_name for name, topic in metadata.topics.items()}
    try:
        from sdstrack_ros.bags.storage.opening import open_bag
    except ImportError:
        return None
    with open_bag(path) as bag:
        return {topic.name: topic.type_name for topic in bag.topics}


def check_topics(path: Path, recorded: Mapping[str, str], images: Sequence[str]) -> str:
    """Compare a recording with the topics that the node listens to.

    Args:
        path: of the recording, for the error.
        recorded: its topics.
        images: topics of the two cameras.

    Returns:
        What is missing, in words; '' when nothing is.

    Raises:
        ParameterError: neither camera is recorded under that name; the message lists what is.
    """
    missing = [name for name in images if name not in recorded]
    if len(missing) == len(images):
        names = [name for name, kind in sorted(recorded.items()) if kind.endswith(("Image", "EventPacket"))]
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        raise ParameterError(
            f"{path} has neither {' nor '.join(images)}; it has {', '.join(names[:MAX_NAMES]) or 'no images'}{more};"
            " choose a config, rgb_topic and aux_topic (events_topic) that name recorded ones"
        )
    return f"{path} has no {missing[0]}: the node will track in the other camera alone" if missing else ""


def has_ros2bag() -> bool:
    """Whether `ros2 bag` is installed."""
    return shutil.which("ros2") is not None and importlib.util.find_spec("ros2bag") is not None


def player_command(
    player: str, path: Path, rate: float, loop: bool, awaited: Sequence[str], sdstrack: Sequence[str]
) -> list[str]:
    """Return the command line that plays a recording with /clock.

    Args:
        player: one of `PLAYERS`; auto is `ros2 bag` where that is installed, else `sdstrack play`.
        path: of the recording.
        rate: playback speed.
        loop: start again at the end.
        awaited: topics that have a subscription as soon as the node is active; playing begins when they have.
        sdstrack: how the command `sdstrack` is started.

    Raises:
        ParameterError: no such player, or it is not installed.
    """
    if player not in PLAYERS:
        raise ParameterError(f"argument 'player' cannot be '{player}'; expected one of {', '.join(PLAYERS)}")
    if player == "auto":
        player = "ros2bag" if has_ros2bag() else "sdstrack"
    options = ["--rate", str(rate), *(["--loop"] if loop else [])]
    if player == "ros2bag":
        if not has_ros2bag():
            raise ParameterError(
                "player:=ros2bag needs `ros2 bag`, which is not installed (apt: ros-$ROS_DISTRO-ros2bag);"
                " or take player:=sdstrack"
            )
        return ["ros2", "bag", "play", str(path), "--clock", str(CLOCK_HZ), "--delay", str(DISCOVERY_S), *options]
    wait = [word for topic in awaited for word in ("--wait-for", topic)]
    return [*sdstrack, "play", str(path), "--wait", str(MAX_WAIT_S if awaited else DISCOVERY_S), *wait, *options]
