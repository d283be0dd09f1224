"""What predicts for a run: its model, or the mean of all of its models."""
