"""Start tracker.launch.py for colour + events; it takes the same arguments."""

from __future__ import annotations

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Include tracker.launch.py with the modality set."""
    launch = Path(get_package_share_directory("sdstrack_ros")) / "launch" / "tracker.launch.py"
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(launch)), launch_arguments={"modality": "event"}.items()
    )
    # In a group, or the modality would stay set for whatever the including file starts next.
    return LaunchDescription([GroupAction([include])])
