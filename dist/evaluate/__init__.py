"""One loop of predictions, and exact metrics of them over all ranks: per domain, task and slice, beside the popularity baseline; where the next item ranks."""
