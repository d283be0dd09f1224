"""Simulated logs, whose truth is known: a platform of seven domains, and a market with every kind of label."""
