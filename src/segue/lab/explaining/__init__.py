"""A story as the model lives it, frame by frame, and three ways to show that."""
