"""The demonstration: the real node on a recording, as `sdstrack demo` runs it. No ROS import except in live_replay."""
