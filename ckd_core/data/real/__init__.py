"""Training pairs out of real images: clips with boxes, clips that a teacher tracker labelled, photographs."""
