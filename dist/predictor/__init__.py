"""What predicts for a run: its model, or the mean of all of its models; and the scores of rows that this makes."""
