"""What a training will need and whether it can work, before it starts: describe, plan, preflight checks."""
