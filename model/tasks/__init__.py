"""From logits and labels to the loss of the tasks."""
