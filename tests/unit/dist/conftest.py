import pytest

from foundrank.dist.embed import work_list as embed_plan
from foundrank.model.contents import ENCODERS

from .embed.embed_job import LengthEncoder


@pytest.fixture
def encoder(monkeypatch):
    encoder = LengthEncoder()
    monkeypatch.setitem(ENCODERS, "llm", lambda config, precision: encoder)
    return encoder


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(embed_plan, "SHARD_ROWS", 8)
