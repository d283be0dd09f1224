"""Finding the best items for a user among all items: item and user vectors, exact and approximate search."""
