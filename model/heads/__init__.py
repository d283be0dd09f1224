"""Multi-task heads: MMoE, PLE, STAR and a shared bottom, with their experts and towers."""
