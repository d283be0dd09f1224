"""Logs as the environment asks for them, and progress that is not of another test."""

import pytest

from foundrank.dist.logs import prometheus, settings


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch):
    for name in (settings.FORMAT, settings.QUIET, settings.NO_PROGRESS, settings.METRICS_FILE, "RANK", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    prometheus.begin()
