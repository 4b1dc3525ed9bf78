"""Messages to arrays and back: images, events, cameras, depth, overlays. No ROS import except in image_codec."""
