"""Ranks that ``srun`` has started without torchrun: which of a step's tasks a process is, and where the tasks of one node meet."""
