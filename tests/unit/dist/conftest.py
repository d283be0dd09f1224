import pytest

from foundrank.dist.embed import embed as embed_module
from foundrank.dist.embed import work_list as embed_plan

from .embed.embed_job import LengthEncoder


@pytest.fixture
def encoder(monkeypatch):
    encoder = LengthEncoder()
    monkeypatch.setattr(embed_module, "load_text_encoder", lambda config, precision: encoder)
    return encoder


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(embed_plan, "SHARD_ROWS", 8)
