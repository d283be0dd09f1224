"""Preference alignment of a generator with a reward: what it finds for users is rewarded, and it is fine-tuned to prefer what is rewarded more."""
