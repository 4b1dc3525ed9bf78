"""The `sdstrack` command: ckd_core's verbs and those that need ROS messages or recordings."""

from __future__ import annotations

import ckd_core.commands
import sdstrack_ros.commands
from ckd_core.cli import build_app, run


def main() -> None:
    """Entry point of the console script."""
    run(build_app(ckd_core.commands, sdstrack_ros.commands))


if __name__ == "__main__":
    main()
