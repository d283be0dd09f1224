"""Preference alignment: a generator learns which of the candidates it found a reward prefers."""

from .preference import Preference as Preference
