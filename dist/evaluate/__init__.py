"""Exact metrics over all ranks: per domain, task and slice, beside the popularity baseline."""
