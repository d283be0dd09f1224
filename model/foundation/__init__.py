"""The whole model, the levels of its parameters, and carrying its weights into another one."""
