"""The embed job: every text of every catalog through the frozen language model, into the content store."""
