from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "sdstrack_ros"


def installed(folder: str, *patterns: str) -> list[tuple[str, list[str]]]:
    """Files of a folder and its subfolders as data_files entries below share/sdstrack_ros."""
    files: dict[str, list[str]] = {}
    for pattern in patterns:
        for path in sorted(Path(folder).rglob(pattern)):
            files.setdefault(f"share/{PACKAGE}/{path.parent}", []).append(str(path))
    return list(files.items())


setup(
    name=PACKAGE,
    version="0.1.0",
    description="Multi-modal single-object tracking for ROS 2: colour plus depth, thermal or event camera",
    license="Apache-2.0",
    maintainer="sdstrack_ros maintainers",
    maintainer_email="maintainers@users.noreply.github.com",
    packages=find_packages(include=["ckd_core", "ckd_core.*", "sdstrack_ros", "sdstrack_ros.*"]),
    package_data={"ckd_core": ["weights/*"], "": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=["setuptools", "safetensors", "typer", "rich"],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *installed("launch", "*.launch.py"),
        *installed("config", "*.yaml", "*.rviz", "*.xml"),
    ],
    entry_points={
        "console_scripts": [
            "sdstrack = sdstrack_ros.cli:main",
            "tracker_node = sdstrack_ros.node.tracker_node:main",
        ],
    },
    zip_safe=False,
)
