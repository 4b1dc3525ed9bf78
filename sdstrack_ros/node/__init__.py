"""The lifecycle node: rclpy, topics, parameters, diagnostics. The only room that spins."""
