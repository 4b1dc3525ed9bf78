"""The tracker as the node uses it: session, worker, requests, overload. No ROS import."""
