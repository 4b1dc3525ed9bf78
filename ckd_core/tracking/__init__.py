"""State between frames: crops, confidence, engines, and the trackers that own them."""
