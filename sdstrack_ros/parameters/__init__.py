"""Every parameter of the node, declared once: table, checks, documentation. No ROS import except in docs."""
