"""`sdstrack play`: a recording over ROS, without rosbag2."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ckd_core.commands._say import say


def command(
    bag: Annotated[
        Path, typer.Argument(help="rosbag2 folder, a single .mcap or .db3 file, or a .raw file of a Prophesee camera.")
    ],
    rate: Annotated[float, typer.Option(help="Playback speed; 2 is twice as fast.")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start again at the end.")] = False,
    start: Annotated[float, typer.Option(help="Seconds to skip at the beginning of the recording.")] = 0.0,
    duration: Annotated[float | None, typer.Option(help="Seconds of the recording to play.")] = None,
    clock: Annotated[
        bool, typer.Option(help="Publish /clock for nodes with use_sim_time, instead of a recorded one.")
    ] = True,
    topic: Annotated[list[str] | None, typer.Option(help="Play only this topic; repeat for several.")] = None,
    wait: Annotated[
        float, typer.Option(help="Wait at most this many seconds for every topic to have a subscriber.")
    ] = 0.0,
    gaps: Annotated[
        bool,
        typer.Option("--gaps", help="Wait as long as the recording did, not a second at most."),
    ] = False,
    frames: Annotated[
        str, typer.Option(help="Beside a .raw file: a video or a quoted pattern of images of the colour camera.")
    ] = "",
    recover: Annotated[bool, typer.Option("--recover", help="Play what is whole of damaged MCAP files.")] = False,
    wait_for: Annotated[
        list[str] | None, typer.Option(help="Wait for a subscriber of this topic only; repeat for several.")
    ] = None,
) -> None:
    """Publish the messages of a recording at the pace of recording; needs rclpy, but not rosbag2."""
    import signal
    from contextlib import ExitStack
    from tempfile import TemporaryDirectory

    from ckd_core.data.event_files import RAW_SUFFIX
    from sdstrack_ros.bags.event_recording import record_raw
    from sdstrack_ros.bags.player import play
    from sdstrack_ros.bags.storage.recovery import recovered

    # Explicit, because a shell ignores SIGINT in background jobs, and because SIGTERM ends a robot's processes.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)

    def report_skip(name: str, reason: str) -> None:
        say(f"not played: {name}: {reason}", err=True)

    def report_remark(remark: str) -> None:
        say(f"{bag}: {remark}", err=True)

    lost: tuple[str, ...] = ()
    with ExitStack() as stack:
        if bag.suffix.lower() == RAW_SUFFIX:
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="sdstrack-raw-")))
            readable = record_raw(bag, folder / bag.stem, frames)
        elif frames:
            raise typer.BadParameter("stands beside a .raw file only", param_hint="--frames")
        else:
            readable, lost = stack.enter_context(recovered(bag, recover))
        for remark in lost:
            report_remark(remark)
        report = play(
            readable,
            rate=rate,
            loop=loop,
            start_s=start,
            duration_s=duration,
            clock=clock,
            topics=topic or (),
            wait_s=wait,
            wait_for=wait_for or (),
            gaps=gaps,
            on_skip=report_skip,
            on_remark=report_remark,
        )
    for name, count in report.messages.items():
        say(f"{name}: {count} messages")
