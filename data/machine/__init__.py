"""What this process may use of its machine: CPUs and memory, as a container, a scheduler or the machine itself limits them."""
