from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "sdstrack_ros"

# What pip installs, named here and nowhere else. A [project] table in pyproject.toml would be read by no setuptools
# before 61, and colcon builds with the system's own: 59 on ROS 2 Humble. Bounds are the lowest versions that the code
# works with; requirements/*.txt pin the development environment, and test/test_package.py compares the names.
REQUIRES = [
    "numpy>=1.21",
    "torch>=2.6",  # convert: load(weights_only=True) with named stand-ins; export to ONNX: onnx.export(optimize=True)
    "opencv-python-headless>=4.6,<5",
    "PyYAML>=5.4",
    "safetensors>=0.4",
    "typer>=0.12",
    "rich>=13",
    "jinja2>=3.0",
    "matplotlib>=3.5",
    "rosbags>=0.11.9",
    "backports.zstd>=1.0; python_version < '3.14'",  # as rosbags itself
    "evt3>=0.4",
]
EXTRAS = {
    "engines": ["onnx", "onnxscript", "onnxruntime", "openvino", "nncf"],
    "train": ["timm>=1.0", "torchvision", "tensorboard", "scikit-image", "scikit-learn"],
    # ROS 2 Jazzy as wheels, for machines without a distribution. One distribution per environment: the names are equal.
    "ros": [
        "ros-rclpy~=7.1.6",
        "ros-rmw-fastrtps-cpp~=8.4.3",
        "ros-fastrtps~=2.14.5",
        "ros-sensor-msgs~=5.3.6",
        "ros-std-msgs~=5.3.6",
        "ros-std-srvs~=5.3.6",
        "ros-geometry-msgs~=5.3.6",
        "ros-visualization-msgs~=5.3.6",
        "ros-diagnostic-msgs~=5.3.6",
        "ros-rosgraph-msgs~=2.0.3",
        "ros-lifecycle-msgs~=2.0.3",
    ],
    "dev": [
        "ruff",
        "mypy",
        "types-PyYAML",
        "codespell",
        "pytest",
        "pytest-timeout",
        "hypothesis",
        "rgbt",
        "psutil",
        "fickling",
    ],
}


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
    package_data={"ckd_core": ["weights/*", "evaluation/report/templates/*", "data/splits/*"], "": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *installed("launch", "*.launch.py"),
        *installed("config", "*.yaml", "*.csv", "*.rviz", "*.xml", "*.json"),
    ],
    entry_points={
        "console_scripts": [
            "sdstrack = sdstrack_ros.cli:main",
            "tracker_node = sdstrack_ros.node.tracker_node:main",
        ],
    },
    zip_safe=False,
)
