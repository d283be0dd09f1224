"""From ids to rows of embedding tables: exact, hashed; and the counting pass with its statistics."""
