"""Real pictures to learn from: clips with boxes, clips a teacher follows things in, photographs."""
