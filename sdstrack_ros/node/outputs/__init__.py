"""What leaves the node: boxes, poses, frames, pictures."""
