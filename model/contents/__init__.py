"""Frozen encoders of contents: the language model that turns texts into vectors."""
