"""Recordings: read, written, played, scored, reported. No rclpy but in the player."""
