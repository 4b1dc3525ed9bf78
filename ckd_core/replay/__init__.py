"""Recorded files through a tracker: boxes, overlay video, timeline."""
