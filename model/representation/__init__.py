"""From lookups, numbers and vectors to one input per row: aspects, gates, the sparse aspect, embedding tables."""
