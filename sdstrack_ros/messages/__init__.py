"""Between ROS messages and arrays: images, events, cameras, detections, overlays. No rclpy."""
