"""Commands about which version of a run is the current one."""
