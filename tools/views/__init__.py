"""Pictures of what config/sdstrack.rviz and config/sdstrack.foxglove.json show, painted from a run of the real node."""
