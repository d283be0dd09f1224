"""Simulated logs, whose truth is known: a platform of seven domains, a market with every kind of label, and a feed with days."""
