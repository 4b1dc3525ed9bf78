"""The lifecycle node: rclpy, topics, parameters, diagnostics."""
