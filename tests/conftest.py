"""What tests of several folders use."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from .jobs.commands import foundrank

# How long an example takes depends on what else the machine does; CI=1 has the same examples drawn every time.
settings.register_profile(
    "foundrank", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("foundrank")


# Files of tests/jobs/ that do without the run which the others share.
_WITHOUT_RUN = {
    f"tests/jobs/test_{name}.py"
    for name in (
        *("bad_data", "delta", "elastic", "kinds", "local_ranks", "next_item", "nightly", "notebook", "pictures"),
        *("python", "recommend_ids", "study", "tokenize"),
    )
}


class _Folders(LoadScopeScheduling):
    """Tests that share the run of jobs/ go to one worker, which makes it once; all else goes to whichever is free, file by file."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "jobs" if file.startswith("tests/jobs/") and file not in _WITHOUT_RUN else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> _Folders:
    """What pytest-xdist asks for with more than one worker."""
    return _Folders(config, log)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a simulated world, without text vectors."""
    folder = tmp_path_factory.mktemp("jobs") / "world"
    foundrank("simulate", folder, "--rows", 20_000)
    return folder
