"""The run folder: its documents and checkpoints, making a run, going on with one, and runs of earlier versions."""
