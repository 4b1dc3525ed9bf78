"""Pairing the two streams: buffers, policies, and the frames built from a pair. No rclpy."""
