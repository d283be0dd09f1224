"""Tuning: trainings that try other settings, chosen by Optuna, on the validation split."""
