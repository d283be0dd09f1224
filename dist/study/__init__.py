"""The cold-start study: many arms of the model over seeds, compared with intervals."""
