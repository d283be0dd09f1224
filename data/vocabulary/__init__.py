"""From ids to rows of embedding tables: exact or hashed; and the counting of ids."""
