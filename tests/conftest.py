"""What tests of several folders use."""

from pathlib import Path

import pytest

from .jobs.commands import foundrank


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a simulated world, without text vectors."""
    folder = tmp_path_factory.mktemp("jobs") / "world"
    foundrank("simulate", folder, "--rows", 20_000)
    return folder
