"""What tests of several folders use."""

from pathlib import Path

import pytest

from .jobs.commands import foundrank


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in a hook of the same name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With two workers, jobs and launches go to one, which makes their world and their run once; all else to the other."""
    for item in items:
        jobs = item.path.relative_to(Path(__file__).parent).parts[0] in ("jobs", "launch")
        item.add_marker(pytest.mark.xdist_group("jobs" if jobs else "others"))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a simulated world, without text vectors."""
    folder = tmp_path_factory.mktemp("jobs") / "world"
    foundrank("simulate", folder, "--rows", 20_000)
    return folder
