"""Further components. TorchX names them after their module and function: those of foundrank.py are `foundrank.NAME`, as those of jobs.py are."""
