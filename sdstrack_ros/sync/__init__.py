"""Pairs the two streams: buffers, policies, frames. No ROS import except in filters and message_filters_compat."""
