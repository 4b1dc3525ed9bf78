"""Recorded files through a tracker, and what comes out: boxes, overlay video, timeline."""
