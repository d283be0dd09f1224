"""Leases: a folder that a job writes into is held by that job alone, until it ends or dies; and who holds it, by name."""
