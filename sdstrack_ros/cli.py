"""The `sdstrack` command: the verbs of ckd_core, and those that need ROS messages or recordings."""

from __future__ import annotations

import ckd_core.commands
import sdstrack_ros.commands
from ckd_core.cli import build_app, run


def main() -> None:
    """Run the console script."""
    run(build_app(ckd_core.commands, sdstrack_ros.commands))


if __name__ == "__main__":
    main()
