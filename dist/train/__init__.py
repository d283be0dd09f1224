"""Training: the loop, what prepares it, its optimizer, and what watches it."""
