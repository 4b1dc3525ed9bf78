"""Parts that start the real node, and cameras in another process: they need ROS."""
