"""Conversion between ROS messages and arrays: images, events, cameras, depth in boxes, overlays. No rclpy."""
