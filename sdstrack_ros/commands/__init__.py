"""The verbs of `sdstrack` that need ROS messages or recordings; one a file, nothing heavy at its top."""
