"""Verbs of `sdstrack` that need messages or recordings, one per file, nothing heavy at the top. No ROS import."""
