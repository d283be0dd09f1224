"""Processes: the process group, starting ranks on this machine, what the environment says of them, stopping them."""
