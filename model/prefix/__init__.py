"""What stands before a user's past in a sequence: the user, a query, the situation, a preference."""
