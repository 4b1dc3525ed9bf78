"""Every parameter of the node, declared once: name, type, default, range, unit, description, effect of a change.

`Settings` is the table. Validation (`checks`), descriptors and docs/parameters.md all come from it. Nothing here
imports ROS, so that files can be checked on any machine.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckd_core import DEFAULT_MODEL
from sdstrack_ros.parameters.spec import ParameterSpec, row

if TYPE_CHECKING:
    from collections.abc import Mapping

_RELIABILITY = ("best_effort", "reliable")
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Settings:
    """Validated values of all parameters; the fields are the table's rows."""

    model: str = row(
        DEFAULT_MODEL, "Model", "Network to run: sdstrack_m256, sdstrack_s128, ckd_s128, sdstrack_b256 or ckd_b256."
    )
    weights: str = row("", "Model", "Weights file (safetensors); empty takes the one shipped with the model.")
    modality: str = row("depth", "Model", "Modality of the auxiliary camera.", choices=("depth", "thermal", "event"))
    engine: str = row(
        "auto", "Model", "Engine that runs the network; auto: the one that sdstrack tune found here, else by rule."
    )
    device: str = row("auto", "Model", "Device of the network: auto, cpu, cuda, cuda:1, ...")
    strict_device: bool = row(
        False, "Model", "Fail to configure, or refuse frames, instead of falling back to another device."
    )
    threads: int = row(
        0,
        "Model",
        "CPU threads that a frame may use; 0: every core, but with more than two of them one is left to other nodes.",
        low=0,
        high=256,
    )
    autostart: bool = row(False, "Model", "Configure and activate at startup, for use without a lifecycle manager.")
    executor: str = row(
        "single",
        "Model",
        "What runs the callbacks, chosen at startup: rclpy's SingleThreadedExecutor or experimental EventsExecutor.",
        choices=("single", "events"),
    )

    bond: bool = row(
        False,
        "Model",
        "Form a bond with nav2's lifecycle manager while active, so that its bond_timeout need not be 0; needs bondpy.",
    )

    confidence: bool = row(
        True,
        "Confidence",
        "Judge every box and report UNCERTAIN or LOST; false trusts every box, as the published trackers do.",
    )
    watch_distance: bool = row(
        True,
        "Confidence",
        "Doubt a box whose depth leaps from one frame to the next: it has left the target. Off where depth is not"
        " registered to colour.",
    )
    watch_appearance: bool = row(
        True,
        "Confidence",
        "Doubt a box whose colours, or what the network sees in it, suddenly are others: it has left the target, which"
        " becomes UNCERTAIN, and without a thermal camera LOST after 32 frames. With the default network; the others do"
        " not.",
    )
    doubt_score: float = row(
        -1.0,
        "Confidence",
        "Score below which a frame is in doubt; -1 takes the value stored with the weights.",
        live=True,
        low=-1,
        high=1,
    )
    unseen_score: float = row(
        -1.0,
        "Confidence",
        "Score below which the target was not seen at all; -1 takes the value stored with the weights.",
        live=True,
        low=-1,
        high=1,
    )
    confirm_score: float = row(
        -1.0,
        "Confidence",
        "Score that a re-acquired target must reach; -1 takes the value stored with the weights.",
        live=True,
        low=-1,
        high=1,
    )
    reacquire: bool = row(True, "Confidence", "Search the whole frame while LOST.")
    missing: str = row(
        "duplicate",
        "Confidence",
        "What replaces a missing image: black (zeros), that camera's last image (last), the other camera's image "
        "(duplicate), or the other camera's in both search region and template (alone).",
        choices=("zeros", "last", "duplicate", "alone"),
    )
    fit_start: bool = row(
        True,
        "Confidence",
        "If the network places the target's box differently in the start frame itself, start on the network's box:"
        " boxes that people or detectors give are often too large, too small or beside the target. With the default"
        " network, while confidence is on; the others do not.",
    )
    template_refresh: str = row(
        "auto",
        "Confidence",
        "Whether the template follows the target's appearance: never, by blending a sure look into it every tenth "
        "frame (blend), or as suits the network (auto: blend for sdstrack_m256, while confidence is on).",
        choices=("auto", "never", "blend"),
    )

    rgb_topic: str = row("rgb/image_raw", "Input", "Colour images (sensor_msgs/Image).")
    aux_topic: str = row("aux/image_raw", "Input", "Depth, thermal or event images (sensor_msgs/Image).")
    events_topic: str = row("aux/events", "Input", "Event packets (event_camera_msgs/EventPacket).")
    camera_info_topic: str = row(
        "camera_info", "Input", "Calibration of the colour camera (sensor_msgs/CameraInfo), for 3-D outputs."
    )
    transport: str = row(
        "raw",
        "Input",
        "compressed reads sensor_msgs/CompressedImage from TOPIC/compressed, and depth from TOPIC/compressedDepth.",
        choices=("raw", "compressed"),
    )
    event_input: str = row(
        "packets",
        "Input",
        "Form of the events: raw packets on events_topic, or ready-made event images on aux_topic.",
        choices=("packets", "image"),
    )
    input_reliability: str = row("best_effort", "Input", "QoS reliability of the subscriptions.", choices=_RELIABILITY)
    input_depth: int = row(
        5, "Input", "QoS history depth of the image subscriptions.", unit="messages", low=1, high=1000
    )
    events_depth: int = row(
        1000, "Input", "QoS history depth of the event subscription.", unit="messages", low=1, high=100000
    )
    stale_after_s: float = row(
        2.0,
        "Input",
        "A topic that is silent for longer causes a warning, images that yield no result for longer an error, and"
        " no target starts in an older image.",
        live=True,
        unit="s",
        low=0.1,
        high=3600.0,
    )
    aux_homography: tuple[float, ...] = row(
        _IDENTITY,
        "Input",
        "Row-major 3x3 matrix from a colour pixel to a pixel of the auxiliary image; the identity means that both "
        "images show the same view, scaled to their sizes.",
        live=True,
        low=-1e9,
        high=1e9,
    )
    thermal_range: tuple[float, float] = row(
        (0.0, 0.0),
        "Input",
        "Values of a thermal image, in its own unit (degrees, counts), that are shown black and white; 0, 0 takes each "
        "frame's percentiles.",
        live=True,
        low=-1e9,
        high=1e9,
    )

    sync_policy: str = row(
        "tolerant",
        "Synchronisation",
        "tolerant survives a dead sensor; approximate and exact are the policies of message_filters.",
        choices=("tolerant", "approximate", "exact"),
    )
    max_skew_s: float = row(
        0.015,
        "Synchronisation",
        "Images whose stamps are further apart are not a pair; half a frame period is right.",
        live=True,
        unit="s",
        low=0.0,
        high=10.0,
    )
    max_wait_s: float = row(
        0.05,
        "Synchronisation",
        "How long an image waits for its partner, at most.",
        live=True,
        unit="s",
        low=0.0,
        high=10.0,
    )
    aux_hold_s: float = row(
        0.0,
        "Synchronisation",
        "How long the last image of a slower auxiliary camera may be used again; 0 never.",
        live=True,
        unit="s",
        low=0.0,
        high=10.0,
    )

    max_clock_offset_s: float = row(
        0.0,
        "Synchronisation",
        "Images stamped further than this from the node's clock are refused; 0 does not compare them (recordings"
        " without use_sim_time).",
        live=True,
        unit="s",
        low=0.0,
        high=1e6,
    )

    label: str = row("target", "Target", "class_id of the detections.", live=True, high=100)
    max_targets: int = row(
        1,
        "Target",
        "Largest number of targets at a time. With 1 every request replaces the target; with more, a request that names"
        " a target by an id adds it, or replaces the target of that id.",
        low=1,
        high=32,
    )
    init_box: tuple[float, ...] = row(
        (0.0, 0.0, 0.0, 0.0),
        "Target",
        "Box x, y, width, height to start on in the first frame; no target while width or height is 0."
        " A change starts a target in the newest frame.",
        live=True,
        unit="px",
        low=-1e5,
        high=1e5,
    )
    init_size: tuple[float, ...] = row(
        (64.0, 64.0),
        "Target",
        "Width and height of a target selected by a click, where depth does not show its extent.",
        live=True,
        unit="px",
        low=4.0,
        high=10000.0,
    )
    history_frames: int = row(
        30, "Target", "Number of past frames kept for boxes that refer to one of them.", unit="frames", low=1, high=300
    )
    memory_mb: int = row(
        512,
        "Input",
        "Memory for images that wait: to be paired, decoded, or for boxes that refer to the past. The oldest give way;"
        " an image that takes more than half of it while it is decompressed is refused.",
        unit="MB",
        low=16,
        high=1000000,
    )
    catch_up_frames: int = row(
        8,
        "Target",
        "Largest number of past frames to track through when catching up.",
        live=True,
        unit="frames",
        low=1,
        high=300,
    )
    adopt_candidates: bool = row(False, "Target", "Adopt the best of ~/candidates while nothing is tracked.", live=True)
    candidate_class: str = row(
        "", "Target", "Class_id that a candidate must have; empty accepts any.", live=True, high=100
    )
    candidate_min_score: float = row(
        0.5, "Target", "Candidates with a lower score are ignored.", live=True, low=0.0, high=1.0
    )
    readopt_after_s: float = row(
        1.0,
        "Target",
        "A candidate replaces a target that has been LOST for longer than this.",
        live=True,
        unit="s",
        low=0.0,
        high=3600.0,
    )

    depth_unit_m: float = row(
        0.001,
        "Depth",
        "Metres per count of an integer depth image (REP 118: 0.001).",
        live=True,
        unit="m",
        low=1e-6,
        high=1.0,
    )
    min_depth_m: float = row(
        0.1,
        "Depth",
        "Nearer readings are ignored in 3-D outputs, and by watch_distance (there from the next configure on).",
        live=True,
        unit="m",
        low=0.0,
        high=100.0,
    )
    max_depth_m: float = row(
        20.0,
        "Depth",
        "Farther readings are ignored in 3-D outputs, and by watch_distance (there from the next configure on).",
        live=True,
        unit="m",
        low=0.1,
        high=1000.0,
    )

    target_frame: str = row(
        "",
        "Target in space",
        "Frame in which targets are followed in space, for example odom; empty: the camera's, in which everything moves"
        " when the camera does.",
        live=True,
        high=256,
    )
    coast_s: float = row(
        1.5,
        "Target in space",
        "How long a target has a predicted pose after its last measurement: while UNCERTAIN or LOST, or without depth.",
        live=True,
        unit="s",
        low=0.0,
        high=60.0,
    )
    publish_pose: bool = row(
        True,
        "Target in space",
        "Publish ~/target_pose, ~/target_pose_cov and ~/target_twist where depth and camera_info are available.",
        live=True,
    )
    publish_tf: bool = row(
        False,
        "Target in space",
        "Publish the frames target (the oldest target) and target_ID (each) on /tf.",
    )
    ego_motion: str = row(
        "none",
        "Target in space",
        "Where the camera's own motion is known from, so that the search region follows it: none, image (optical flow"
        " of the colour image, or of the auxiliary one while there is no colour), or tf (the camera's rotation in"
        " target_frame, and camera_info).",
        choices=("none", "image", "tf"),
    )

    publish_3d: bool = row(
        True,
        "Output",
        "Publish ~/detections_3d where depth and camera_info are available; a missing camera_info causes a warning.",
        live=True,
    )
    publish_markers: bool = row(True, "Output", "Publish ~/markers for RViz.", live=True)
    publish_overlay: bool = row(True, "Output", "Publish ~/overlay while someone subscribes to it.", live=True)
    overlay_side_by_side: bool = row(False, "Output", "Show both modalities in the overlay.", live=True)
    publish_predicted: bool = row(
        False,
        "Output",
        "Publish ~/detections_predicted: the boxes moved on along their course to the time of publishing.",
        live=True,
    )
    output_reliability: str = row("reliable", "Output", "QoS reliability of the outputs.", choices=_RELIABILITY)
    shed_outputs: bool = row(
        True,
        "Output",
        "When frames come faster than they can be processed, leave out the overlay, then markers, then 3-D.",
        live=True,
    )


def parameter_table() -> tuple[ParameterSpec, ...]:
    """Return all rows in order of declaration."""
    return tuple(
        ParameterSpec(name=field.name, default=field.default, **field.metadata)
        for field in dataclasses.fields(Settings)
    )


TABLE: Mapping[str, ParameterSpec] = {spec.name: spec for spec in parameter_table()}
