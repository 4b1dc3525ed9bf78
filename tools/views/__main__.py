"""Paint docs/rviz.jpg and docs/foxglove.jpg: `python -m tools.views [--out FOLDER]`.

Neither viewer runs here. The displays, panels, topics, colours and views are those of the two files in config/; what
they show are the messages of a run of the node; the painting is ours.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import matplotlib as mpl
import numpy as np
import yaml

from ckd_core.files import atomic_path
from sdstrack_ros.bags.writer import FRAME_ID, ODOM_FRAME
from sdstrack_ros.messages.transforms import RigidTransform
from tools.views.run import NODE, Seen, run
from tools.views.scene import Orbit, Scene

mpl.use("Agg")
import matplotlib.pyplot as plt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]
    Rect = tuple[float, float, float, float]  # left, bottom, width, height as shares of the figure

ROOT = Path(__file__).parents[2]
RVIZ, FOXGLOVE = ROOT / "config" / "sdstrack.rviz", ROOT / "config" / "sdstrack.foxglove.json"
DPI, QUALITY = 100, 82
PINK = (204, 51, 204)  # of the position's covariance, as in sdstrack.rviz


def pixels_of(message: Any) -> Picture:
    """An rgb8 image message as [H, W, 3]."""
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)


def place_of(point: Any) -> NDArray[np.float64]:
    """A Point or Vector3 as [3]."""
    return np.array((point.x, point.y, point.z))


def to_fixed(seen: Seen, fixed: str, frame: str) -> RigidTransform:
    """The transform from one of the two frames to the fixed one."""
    if frame == fixed:
        return RigidTransform()
    return seen.camera if fixed == ODOM_FRAME else seen.camera.inverse()


def add_markers(scene: Scene, seen: Seen, fixed: str) -> None:
    """The newest ~/markers: cubes as edges, arrows, lines and texts."""
    from visualization_msgs.msg import Marker

    for marker in seen.messages[f"{NODE}/markers"][-1].markers:
        there = to_fixed(seen, fixed, marker.header.frame_id)
        color = tuple(round(255 * share) for share in (marker.color.r, marker.color.g, marker.color.b))
        middle = place_of(marker.pose.position)
        points = [there.apply(middle + place_of(point)) for point in marker.points]
        if marker.type == Marker.CUBE:
            corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
            corners = np.stack([there.apply(middle + corner * place_of(marker.scale)) for corner in corners])
            for first in range(8):
                for axis in (1, 2, 4):
                    if not first & axis:
                        scene.strip([corners[first], corners[first | axis]], color, 2)
        elif marker.type in (Marker.LINE_STRIP, Marker.ARROW) and points:
            scene.strip(points, color, 4 if marker.type == Marker.ARROW else 2)
        elif marker.type == Marker.LINE_LIST:
            for begin, end in zip(points[::2], points[1::2], strict=True):
                scene.strip([begin, end], color, 2)
        elif marker.type == Marker.TEXT_VIEW_FACING:
            scene.labels.append((there.apply(middle), marker.text.replace("\n", ", "), color))


def add_pose(scene: Scene, seen: Seen, fixed: str, shape: str) -> None:
    """The newest ~/target_pose_cov: axes, and the ellipsoid of one standard deviation."""
    message = seen.messages[f"{NODE}/target_pose_cov"][-1]
    there = to_fixed(seen, fixed, message.header.frame_id)
    place = there.apply(place_of(message.pose.pose.position))
    covariance = np.array(message.pose.covariance).reshape(6, 6)[:3, :3]
    scene.ellipsoid(place, there.rotation @ covariance @ there.rotation.T, PINK)
    if shape == "Axes":
        scene.axes(there.rotation, place, 0.4)


def add_frames(scene: Scene, seen: Seen, fixed: str, length: float) -> None:
    """The frames of /tf: the fixed one, the camera's and the targets'."""
    scene.axes(np.eye(3), np.zeros(3), length, fixed)
    other = FRAME_ID if fixed == ODOM_FRAME else ODOM_FRAME
    there = to_fixed(seen, fixed, other)
    scene.axes(there.rotation, there.translation, length, other)
    newest = {t.child_frame_id: t for message in seen.messages["/tf"] for t in message.transforms}
    for name, transform in newest.items():
        if name.startswith("target"):
            there = to_fixed(seen, fixed, transform.header.frame_id)
            place = there.apply(place_of(transform.transform.translation))
            scene.axes(there.rotation, place, length, name if name == "target" else "")


def cloud_of(seen: Seen, fixed: str) -> tuple[NDArray[np.float64], Picture]:
    """The depth image as points, with the colours of the colour image."""
    depth = seen.depth[::2, ::2].astype(np.float64) / 1000
    ys, xs = np.nonzero(depth)
    z = depth[ys, xs]
    rays = np.linalg.inv(seen.matrix) @ np.stack((2 * xs, 2 * ys, np.ones(len(xs))))
    there = to_fixed(seen, fixed, FRAME_ID)
    return (rays * z).T @ there.rotation.T + there.translation, seen.color[2 * ys, 2 * xs]


def overlaid(seen: Seen) -> Picture:
    """RViz's Camera display: the markers before the camera image."""
    scene = Scene((0, 0, 0))
    add_markers(scene, seen, FRAME_ID)
    picture = seen.color.copy()
    for ends, color, width in scene.lines:
        if ends[:, 2].min() > 0.1:
            begin, end = ((seen.matrix @ (point / point[2]))[:2].round().astype(int).tolist() for point in ends)
            cv2.line(picture, begin, end, color, width, cv2.LINE_AA)
    return picture


def show(figure: Any, rect: Rect, picture: Picture, title: str) -> None:
    """A titled picture that keeps its shape."""
    axes = figure.add_axes(rect)
    axes.imshow(picture, interpolation="antialiased")
    axes.set_title(title, color="white", fontsize=9, loc="left", pad=3)
    axes.set_axis_off()


def paint_rviz(seen: Seen) -> Any:
    """The displays of sdstrack.rviz that are enabled, as RViz docks them: images to the left, space to the right."""
    manager = yaml.safe_load(RVIZ.read_text())["Visualization Manager"]
    options, view = manager["Global Options"], manager["Views"]["Current"]
    fixed = options["Fixed Frame"]
    scene = Scene(tuple(int(level) for level in options["Background Color"].split(";")))  # type: ignore[arg-type]
    displays = [display for display in manager["Displays"] if display["Enabled"]]
    images: list[tuple[str, Picture]] = []
    for display in displays:
        kind = display["Class"].rpartition("/")[2]
        if kind == "Image":
            images.append((display["Name"], pixels_of(seen.messages[display["Topic"]["Value"]][-1])))
        elif kind == "Camera":
            images.append((display["Name"], overlaid(seen)))
        elif kind == "MarkerArray":
            add_markers(scene, seen, fixed)
        elif kind == "DepthCloud":
            scene.cloud = cloud_of(seen, fixed)
        elif kind == "PoseWithCovariance":
            add_pose(scene, seen, fixed, display["Shape"])
        elif kind == "TF":
            add_frames(scene, seen, fixed, display["Marker Scale"])
        else:
            raise SystemExit(f"{RVIZ}: display '{display['Name']}' is a {kind}, which this tool cannot paint")
    focus = np.array([view["Focal Point"][axis] for axis in "XYZ"], dtype=np.float64)
    yaw, pitch = view["Yaw"], view["Pitch"]
    direction = np.array((np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)))
    figure = plt.figure(figsize=(12, 7), dpi=DPI, facecolor="#303030")
    names = "\n".join(f"[x] {display['Name']}" for display in displays)
    figure.text(0.01, 0.97, f"Displays\n{names}", color="white", fontsize=9, va="top", family="monospace")
    for index, (name, picture) in enumerate(images):
        show(figure, (0.01, 0.40 - 0.39 * index, 0.30, 0.36), picture, name)
    show(figure, (0.32, 0.01, 0.67, 0.95), scene.paint(Orbit(focus, direction, view["Distance"]), 804, 665), fixed)
    return figure


def paint_foxglove(seen: Seen) -> Any:
    """The panels of sdstrack.foxglove.json, where its layout puts them."""
    document = json.loads(FOXGLOVE.read_text())
    figure = plt.figure(figsize=(12, 7.5), dpi=DPI, facecolor="#15151a")
    for panel, rect in places(document["layout"], (0.0, 0.0, 1.0, 1.0)):
        kind, settings = panel.partition("!")[0], document["configById"][panel]
        PANELS[kind](figure, inner(rect, kind), settings, seen)
    return figure


def places(layout: Any, rect: Rect) -> list[tuple[str, Rect]]:
    """Names of the panels with where they are."""
    if isinstance(layout, str):
        return [(layout, rect)]
    left, bottom, width, height = rect
    share = layout.get("splitPercentage", 50) / 100
    if layout["direction"] == "row":
        first, second = (
            (left, bottom, share * width, height),
            (left + share * width, bottom, (1 - share) * width, height),
        )
    else:
        first = (left, bottom + (1 - share) * height, width, share * height)
        second = (left, bottom, width, (1 - share) * height)
    return places(layout["first"], first) + places(layout["second"], second)


def inner(rect: Rect, kind: str) -> Rect:
    """The part of a panel below its title, and beside the labels that plots have."""
    left, bottom, width, height = rect
    margin = (0.045, 0.055) if kind in ("Plot", "StateTransitions") else (0.01, 0.01)
    return left + margin[0], bottom + margin[1], width - margin[0] - 0.01, height - margin[1] - 0.04


def image_panel(figure: Any, rect: Rect, settings: Any, seen: Seen) -> None:
    """Image: the newest of a topic."""
    picture = pixels_of(seen.messages[settings["imageMode"]["imageTopic"]][-1])
    show(figure, rect, picture, settings["foxglovePanelTitle"])


def space_panel(figure: Any, rect: Rect, settings: Any, seen: Seen) -> None:
    """3D: the visible topics, the frames, and the grid, in the frame that is followed."""
    fixed, state = settings["followTf"], settings["cameraState"]
    scene = Scene((21, 21, 26))
    for layer in settings["layers"].values():
        if layer["visible"] and layer["layerId"] == "foxglove.Grid":
            scene.grid(layer["size"], (70, 70, 78))
    if settings["topics"][f"{NODE}/markers"]["visible"]:
        add_markers(scene, seen, fixed)
    if settings["topics"][f"{NODE}/target_pose_cov"]["visible"]:
        add_pose(scene, seen, fixed, "Axes")
    add_frames(scene, seen, fixed, settings["scene"]["transforms"]["axisScale"])
    phi, theta = np.radians((state["phi"], state["thetaOffset"]))
    direction = np.array((-np.sin(phi) * np.sin(theta), -np.sin(phi) * np.cos(theta), np.cos(phi)))
    focus = np.add(state["target"], state["targetOffset"]).astype(np.float64)
    width, height = (round(share * side * DPI) for share, side in zip(rect[2:], figure.get_size_inches(), strict=True))
    picture = scene.paint(Orbit(focus, direction, state["distance"], state["fovy"]), width, height)
    show(figure, rect, picture, settings["foxglovePanelTitle"])


def dark_axes(figure: Any, rect: Rect, title: str) -> Any:
    """Axes of a plot with light labels."""
    axes = figure.add_axes(rect, facecolor="#15151a")
    axes.set_title(title, color="white", fontsize=9, loc="left", pad=3)
    axes.tick_params(colors="#b0b0b8", labelsize=7)
    for spine in axes.spines.values():
        spine.set_color("#505058")
    return axes


def at_path(message: Any, path: str) -> float | None:
    """The number at a path like `.detections[0].results[0].hypothesis.score`; None where a list is shorter."""
    for name in path.replace("[", ".").replace("]", "").strip(".").split("."):
        if name.isdigit():
            if int(name) >= len(message):
                return None
            message = message[int(name)]
        else:
            message = getattr(message, name)
    return float(message)


def plot_panel(figure: Any, rect: Rect, settings: Any, seen: Seen) -> None:
    """Plot: numbers of messages over their stamps."""
    axes = dark_axes(figure, rect, settings["foxglovePanelTitle"])
    begin = min(stamp_s(m) for path in settings["paths"] for m in seen.messages[topic_of(path["value"])])
    for path in settings["paths"]:
        topic = topic_of(path["value"])
        points = [(stamp_s(m) - begin, at_path(m, path["value"][len(topic) :])) for m in seen.messages[topic]]
        axes.plot(*zip(*((x, y) for x, y in points if y is not None), strict=True), label=path["label"], linewidth=1)
    axes.legend(fontsize=7, loc="upper right", facecolor="#202026", labelcolor="white", edgecolor="#505058")


def topic_of(path: str) -> str:
    """The topic at the beginning of a message path."""
    return path.partition(".")[0]


def stamp_s(message: Any) -> float:
    """Stamp of a message's header [s]."""
    return float(message.header.stamp.sec + message.header.stamp.nanosec / 1e9)


def state_panel(figure: Any, rect: Rect, settings: Any, seen: Seen) -> None:
    """StateTransitions: texts of ~/status from message to message."""
    axes = dark_axes(figure, rect, settings["foxglovePanelTitle"])
    statuses = seen.messages[f"{NODE}/status"]
    rows = [path["label"] for path in settings["paths"]]
    colors: dict[str, str] = {}
    shown = [""] * len(rows)
    for index, status in enumerate(statuses):
        values = {pair.key: pair.value for pair in status.values}
        for row, text in enumerate((values.get("state", ""), str(int.from_bytes(status.level, "little")))):
            axes.barh(row, 1, left=index, color=colors.setdefault(text, f"C{len(colors)}"), height=0.7)
            if text != shown[row]:
                axes.text(index + 0.05, row, text, color="white", fontsize=7, va="center")
            shown[row] = text
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    axes.set_xlim(0, max(len(statuses), 1))


def diagnostics_panel(figure: Any, rect: Rect, settings: Any, seen: Seen) -> None:
    """DiagnosticStatusPanel: the newest status, as far as there is room."""
    status = seen.messages[settings["topicToRender"]][-1].status[0]
    left, bottom, _, height = rect
    values = ((pair.key, Path(pair.value).name if pair.value.startswith("/") else pair.value) for pair in status.values)
    lines = [f"{status.name}: {status.message}", *(f"{key:32.32} {value:.34}" for key, value in values)]
    room = int(height * figure.get_size_inches()[1] * 72 / 9.5)
    figure.text(left, bottom + height + 0.01, settings["foxglovePanelTitle"], color="white", fontsize=9)
    text = "\n".join(line[:78] for line in lines[:room])
    figure.text(left, bottom + height, text, color="#d0d0d8", fontsize=6.5, va="top", family="monospace")


PANELS = {
    "Image": image_panel,
    "3D": space_panel,
    "Plot": plot_panel,
    "StateTransitions": state_panel,
    "DiagnosticStatusPanel": diagnostics_panel,
}


def main() -> None:
    """Run the node, paint both pictures."""
    parser = argparse.ArgumentParser(prog="python -m tools.views", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder for rviz.jpg and foxglove.jpg")
    options = parser.parse_args()
    seen = run()
    for name, paint in (("rviz", paint_rviz), ("foxglove", paint_foxglove)):
        path = options.out / f"{name}.jpg"
        figure = paint(seen)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="jpg", facecolor=figure.get_facecolor(), pil_kwargs={"quality": QUALITY})
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
