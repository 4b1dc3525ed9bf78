"""A real node, its processes and its cameras, over real DDS."""
