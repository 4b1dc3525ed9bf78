"""What the launch files make of their arguments: parameters, files, names and environment. No ROS import."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckd_core.settings import SettingsError, load_yaml
from sdstrack_ros.parameters.spec import ParameterError
from sdstrack_ros.parameters.table import TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

NODE_NAME = "tracker"
# Arguments that are not empty become parameters of the same name, and override the config file.
PARAMETER_ARGUMENTS = {
    "modality": "auxiliary camera: depth, thermal or event; empty: as in the config file",
    "model": "network, for example sdstrack_m256",
    "weights": "weights file; empty: the one shipped with the model",
    "device": "device of the network: auto, cpu, cuda, ...",
    "rgb_topic": "topic of the colour images",
    "aux_topic": "topic of the depth, thermal or event images",
    "events_topic": "topic of the event packets",
    "camera_info_topic": "topic of the colour camera's calibration",
    "transport": "raw or compressed",
    "sync_policy": "tolerant, approximate or exact",
    "init_box": "box to start on in the first frame: x,y,width,height in pixels",
    "target_frame": "frame in which targets are followed in space, for example odom; empty: as in the config file",
    "publish_tf": "true: publish the frames of the targets on /tf",
    "ego_motion": "none, image or tf: where the camera's own motion is known from",
    "bond": "true: form a bond with nav2's lifecycle manager",
}
OTHER_ARGUMENTS = {
    "config": ("", "parameter file: a path, or the name of one in this package's config/"),
    "namespace": ("", "namespace of the node"),
    "lifecycle": ("true", "configure and activate the node; false leaves that to a lifecycle manager"),
    "autostart": ("", "true: the node configures and activates itself, not launch; empty: as in the config file"),
    "respawn": ("false", "restart the node when it ends, and let it configure and activate itself"),
    "pose_topic": ("", "topic of the target's pose, for example /goal_update; empty: ~/target_pose"),
    "rviz": ("false", "start RViz"),
    "fixed_frame": ("", "fixed frame of RViz; empty: target_frame, else camera_color_optical_frame"),
    "use_sim_time": ("false", "take the time from /clock"),
}
# Of replay.launch.py; None: it has to be given.
REPLAY_ARGUMENTS = {
    "bag": (None, "recording: rosbag2 folder or file"),
    "rate": ("1.0", "playback speed; 2 is twice as fast"),
    "loop": ("false", "start again at the end"),
    "delay": ("0.0", "seconds to wait once the node is active, before playing"),
    "player": (
        "auto",
        "ros2bag (`ros2 bag play`) or sdstrack (`sdstrack play`); auto: the first that is installed",
    ),
}
# Launch itself takes these for every process.
_LAUNCHS_OWN = ("emulate_tty", "sigkill_timeout", "sigterm_timeout")
CONFIG_OF_MODALITY = {"depth": "rgbd", "thermal": "rgbt", "event": "rgbe"}
# Launch files that set the modality, whatever argument of that name a bringup has.
MODALITY_OF_FILE = {
    "follow.launch.py": "depth",
    **{f"{name}.launch.py": modality for modality, name in CONFIG_OF_MODALITY.items()},
}
# Humble and Jazzy read the first, Kilted and later the second.
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
# Every bringup has arguments, and launch hands them on to all that it includes: "/dev/video0" is somebody else's.
_NAMESPACE = re.compile(r"/?([A-Za-z_]\w*(/[A-Za-z_]\w*)*/?)?", re.ASCII)
_TOPIC = re.compile(r"(~/|/)?[A-Za-z_{][\w{}]*(/[A-Za-z_{][\w{}]*)*", re.ASCII)  # {node} and {ns} are replaced
_DEVICE = re.compile(r"[a-z]+(:\d+)?")


def check_argument_names(words: Sequence[str], folder: Path) -> None:
    """Refuse unknown arguments, where the command line starts one of our files and not a bringup that includes it.

    Launch itself takes any name, and a misspelt one would have no effect.

    Args:
        words: of the command line of `ros2 launch`.
        folder: with our launch files.

    Raises:
        ParameterError: a name is not known; the message has the one that is meant.
    """
    ours = {path.resolve(): path.name for path in folder.glob("*.launch.py")}  # colcon may install links
    started = ""
    for before, word in pairwise(words):
        if before == "sdstrack_ros" and word in ours.values():
            started = word
        started = ours.get(Path(word).resolve(), started)
    if not started:
        return
    known = [*PARAMETER_ARGUMENTS, *OTHER_ARGUMENTS, *_LAUNCHS_OWN]
    known += REPLAY_ARGUMENTS if started == "replay.launch.py" else ()
    for name, _, value in (word.partition(":=") for word in words if ":=" in word):
        fixed = MODALITY_OF_FILE.get(started, value)
        if name == "modality" and value and value != fixed:
            raise ParameterError(f"argument 'modality' cannot be '{value}': {started} is for '{fixed}'")
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            meant = f"did you mean '{close[0]}'? " if close else ""
            raise ParameterError(f"unknown argument '{name}' of {started}; {meant}--show-args lists them")


def switch(name: str, text: str) -> bool:
    """Return the value of an argument that is either on or off.

    Args:
        name: of the argument, for the error.
        text: its value.

    Raises:
        ParameterError: it is neither.
    """
    word = text.strip().lower()
    if word not in _YES + _NO:
        raise ParameterError(f"argument '{name}' cannot be '{text}'; expected one of {', '.join(_YES + _NO)}")
    return word in _YES


def positive(name: str, text: str, zero: bool = False) -> float:
    """Return the value of an argument that is a number above zero, or zero where `zero` allows it.

    Raises:
        ParameterError: it is not such a number.
    """
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not (0 < number < float("inf") or (zero and number == 0)):
        raise ParameterError(f"argument '{name}' cannot be '{text}'; expected a number {'from' if zero else 'above'} 0")
    return number


def topic(name: str, text: str) -> str:
    """Return the value of an argument that is the name of a topic; it may be empty.

    Raises:
        ParameterError: a node cannot have a topic of that name.
    """
    if text and not _TOPIC.fullmatch(text):
        raise ParameterError(f"argument '{name}' cannot be '{text}'; expected a name like /goal_update or ~/goal")
    return text


def parameters_from(texts: Mapping[str, str]) -> dict[str, Any]:
    """Return the parameters that arguments of the same name set; an empty one sets nothing.

    Raises:
        ParameterError: a value that its parameter cannot have; the message says which would be right.
    """
    values: dict[str, Any] = {}
    for name, text in texts.items():
        if not text:
            continue
        value: Any = box(text) if name == "init_box" else text
        if TABLE[name].kind == "bool":
            value = switch(name, text)
        if name.endswith("_topic"):
            topic(name, text)
        if name == "device" and not _DEVICE.fullmatch(text):
            raise ParameterError(f"argument 'device' cannot be '{text}'; expected auto, cpu, cuda, cuda:1, ...")
        values[name] = TABLE[name].check(value)
    return values


def box(text: str) -> tuple[float, ...]:
    """Return the numbers of `200,150,60,80` or `[200, 150, 60, 80]`.

    Raises:
        ParameterError: these are not x, y and a positive width and height.
    """
    try:
        numbers = tuple(float(number) for number in text.strip(" []").split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 4 or not (numbers[2] > 0 and numbers[3] > 0):
        raise ParameterError(
            f"argument 'init_box' cannot be '{text}'; expected x,y,width,height in pixels: 200,150,60,80"
        )
    return numbers


def config_file(share: Path, config: str, modality: str) -> Path:
    """Return the parameter file: by path or name, else the one of the modality (empty: depth).

    Args:
        share: the package's share folder.
        config: path of a parameter file, or the name of one in config/, with or without .yaml; may be empty.
        modality: depth, thermal, event, or empty.

    Raises:
        ParameterError: there is no such file; the message lists the shipped names.
    """
    name = config or CONFIG_OF_MODALITY[modality or "depth"]
    shipped = share / "config" / f"{name.removesuffix('.yaml')}.yaml"
    path = shipped if shipped.is_file() else Path(name).expanduser()
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in (share / "config").glob("*.yaml")))
        raise ParameterError(f"config '{config}' is neither a file nor one of: {names}")
    return path


def settings_of_node(path: Path, node: str) -> dict[str, Any]:
    """Return the parameters that a parameter file sets for one node.

    Args:
        path: of a parameter file; its sections may be nested namespaces and may have the wildcards `*` and `**`.
        node: full name of the node, like /robot1/tracker.

    Raises:
        ParameterError: the file cannot be read, or it is for other nodes only; the message names those.
    """
    try:
        sections = list(_sections(path, load_yaml(path), ""))
    except SettingsError as error:
        raise ParameterError(str(error)) from error
    own = [values for name, values in sections if _matches(name, node)]
    if not own:
        names = ", ".join(name for name, _ in sections) or "no node"
        raise ParameterError(f"{path} has parameters for {names}; expected some for {node} or /**")
    return {name: value for values in own for name, value in values.items()}


def _sections(path: Path, document: Any, above: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if not isinstance(document, dict):
        raise ParameterError(f"{path}: expected `ros__parameters:` with values below '{above or '/**'}'")
    for name, below in document.items():
        if name == "ros__parameters":
            if not isinstance(below, dict):
                raise ParameterError(f"{path}: expected values by name below `ros__parameters:` of '{above}'")
            yield above, below
        else:
            yield from _sections(path, below, f"{above}/{str(name).strip('/')}")


def _matches(section: str, node: str) -> bool:
    wildcards = {"**": r"(/\w+)*", "*": r"/\w+"}
    parts = section.strip("/").split("/")
    return re.fullmatch("".join(wildcards.get(part, "/" + re.escape(part)) for part in parts), node) is not None


@dataclass(frozen=True, slots=True)
class TrackerArguments:
    """What the arguments of tracker.launch.py mean.

    Attributes:
        name: full name of the node.
        config: parameter file.
        overrides: parameters that arguments set.
        settings: parameters by the config file and `overrides`.
    """

    name: str
    config: Path
    overrides: dict[str, Any]
    settings: dict[str, Any]


def tracker_arguments(share: Path, values: Mapping[str, str], pushed: str) -> TrackerArguments:
    """Check the arguments that say which node is started, and with which parameters.

    Args:
        share: the package's share folder.
        values: arguments by name; an absent one is empty.
        pushed: namespace of the groups around the node (push-ros-namespace), '' without one.

    Raises:
        ParameterError: an argument or the config file cannot be used, or the two contradict each other.
    """
    overrides = parameters_from({name: values.get(name, "") for name in PARAMETER_ARGUMENTS})
    namespace = values.get("namespace", "")
    if not _NAMESPACE.fullmatch(namespace):
        raise ParameterError(
            f"argument 'namespace' cannot be '{namespace}'; expected names like robot1 or /robots/robot1"
        )
    name = node_name(pushed, namespace)
    modality = values.get("modality", "")
    config = config_file(share, values.get("config", ""), modality)
    settings = settings_of_node(config, name)
    check_modality(config, settings, modality)
    return TrackerArguments(name, config, overrides, {**settings, **overrides})


def check_modality(config: Path, settings: Mapping[str, Any], modality: str) -> None:
    """Refuse a parameter file for another modality than the one that was asked for.

    Raises:
        ParameterError: the two contradict each other.
    """
    of_file = settings.get("modality", modality)
    if modality and of_file != modality:
        raise ParameterError(
            f"modality '{modality}' contradicts config {config}, which is for '{of_file}'; choose another config"
        )


def node_name(pushed: str, namespace: str) -> str:
    """Return the full name of the node, as launch_ros makes it.

    Args:
        pushed: namespace of the groups around the node (push-ros-namespace), '' without one.
        namespace: of the node; one with a leading slash does not follow `pushed`.
    """
    parts = namespace if namespace.startswith("/") else f"{pushed}/{namespace}"
    return "/" + "/".join([part for part in parts.split("/") if part] + [NODE_NAME])


def resolved_topic(node: str, settings: Mapping[str, Any], parameter: str) -> str:
    """Return the full name of the topic that a parameter names, as the node resolves it without remappings.

    Args:
        node: full name of the node.
        settings: the node's parameters; those that are absent have their default.
        parameter: for example rgb_topic.
    """
    name = str(settings.get(parameter) or TABLE[parameter].default)
    if name.startswith("~"):
        return node + name[1:]
    return name if name.startswith("/") else f"{node.removesuffix(NODE_NAME)}{name}"


def image_topics(node: str, settings: Mapping[str, Any]) -> tuple[str, str]:
    """Return the topics on which the node listens to the colour and to the auxiliary camera.

    Args:
        node: full name of the node.
        settings: the node's parameters; those that are absent have their default.
    """

    def setting(parameter: str) -> Any:
        return settings.get(parameter, TABLE[parameter].default)

    color = resolved_topic(node, settings, "rgb_topic")
    if setting("modality") == "event" and setting("event_input") == "packets":
        auxiliary, suffix = resolved_topic(node, settings, "events_topic"), ""
    else:
        auxiliary = resolved_topic(node, settings, "aux_topic")
        suffix = "/compressedDepth" if setting("modality") == "depth" else "/compressed"
    compressed = setting("transport") == "compressed"
    return color + "/compressed" * compressed, auxiliary + suffix * compressed


def rviz_remappings(node: str, settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Map the topic names in sdstrack.rviz, and those that RViz derives from them, to the topics in use.

    Args:
        node: full name of the node.
        settings: the node's parameters; those that are absent have their default.
    """
    calibration = resolved_topic(node, settings, "camera_info_topic")
    ours = ("overlay", "markers", "target_pose_cov", "init_point")
    names = [(f"/tracker/{name}", f"{node}/{name}") for name in ours]
    names += [("/rgb/image_raw", resolved_topic(node, settings, "rgb_topic")), ("/rgb/camera_info", calibration)]
    if settings.get("modality", "depth") == "depth":  # depth is registered to colour, so it shares its calibration
        names += [("/aux/image_raw", resolved_topic(node, settings, "aux_topic")), ("/aux/camera_info", calibration)]
    return names


def profile_environment(share: Path, environment: Mapping[str, str], rmw: str) -> dict[str, str]:
    """Return the variables that point Fast DDS to the profile for images.

    Args:
        share: the package's share folder.
        environment: of the launch; a profile that the user has set there stays.
        rmw: the middleware in use. Others than Fast DDS get nothing.
    """
    if "fastrtps" not in rmw or any(environment.get(name) for name in PROFILE_VARIABLES):
        return {}
    return dict.fromkeys(PROFILE_VARIABLES, str(share / "config" / "fastdds.xml"))
