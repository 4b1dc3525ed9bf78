"""Recordings on disk: metadata, storage files, damage, and one way to open them all. No ROS import."""
