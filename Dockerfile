# The node in a container:
#   docker build -t sdstrack --target cpu --build-arg TORCH_INDEX_URL=<PyTorch's index of CPU builds> .
#   docker build -t sdstrack --target cuda .
#   docker run --rm --net=host --ipc=host [--gpus all] sdstrack rgbd.launch.py config:=realsense.yaml
ARG ROS_DISTRO=jazzy

FROM ros:${ROS_DISTRO} AS robot
ARG ROS_DISTRO
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /ws
COPY . src/sdstrack_ros
# No display in here: rviz2 stays outside. torch comes with each stage below. apt has one version of each package.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-pip python3-venv \
    && rosdep update --rosdistro "$ROS_DISTRO" \
    && rosdep install --from-paths src --ignore-src -y --rosdistro "$ROS_DISTRO" --dependency-types exec \
        --skip-keys "python3-torch rviz2 rviz_default_plugins" \
    && python3 -m venv --system-site-packages /opt/sdstrack \
    && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/sdstrack/bin:$PATH
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" && colcon build --packages-select sdstrack_ros
ENTRYPOINT ["/bin/bash", "-c", "source /ws/install/setup.bash && exec ros2 launch sdstrack_ros \"$@\"", "sdstrack"]
CMD ["rgbd.launch.py"]

# apt's cv_bridge is compiled against NumPy 1 up to Kilted; apt's OpenCV serves it and us. Versions: the newest that fit.
FROM robot AS cuda
# hadolint ignore=DL3013
RUN pip install --no-cache-dir "numpy<2" "torch>=2.6" safetensors "typer>=0.12" "rich>=13" rosbags evt3

FROM robot AS cpu
ARG TORCH_INDEX_URL=""
# hadolint ignore=DL3013
RUN pip install --no-cache-dir ${TORCH_INDEX_URL:+--index-url "$TORCH_INDEX_URL"} "numpy<2" "torch>=2.6" \
    && pip install --no-cache-dir safetensors "typer>=0.12" "rich>=13" rosbags evt3
