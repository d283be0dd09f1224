"""Batch jobs of a trained run: scores for rows and recommendations for users, Parquet in, Parquet out."""
