"""Recordings: read, written, played, scored, reported. No ROS import except in player."""
