"""``foundrank`` with checkpoints that are never written: what `benchmarks.checkpointing` compares with."""

from foundrank.dist.cli import main as cli
from foundrank.dist.train import train


class _Nothing:
    """Takes a checkpoint's place and does none of its work."""

    def __init__(self, *_: object):
        pass

    def check(self, *_: object) -> None:
        """Looks at nothing."""

    def save(self, *_: object) -> bool:
        """Saves nothing."""
        return False

    def wait(self) -> None:
        """Waits for nothing."""

    def close(self) -> None:
        """Has nothing to give back."""


if __name__ == "__main__":
    train.Checkpoints = _Nothing  # type: ignore[misc, assignment]
    cli.main()
