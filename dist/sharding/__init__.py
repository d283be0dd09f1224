"""Who holds which part of which table: the planner, the sharded model, and the kernels of tables on CPUs."""
