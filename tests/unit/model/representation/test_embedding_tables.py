import torch
from torch import nn

from foundrank.model.representation.embedding_tables import initial_rows, initialise_table, make_embeddings, materialise


def test_one_table_per_entry_with_the_keys_that_share_it(layout):
    embeddings = make_embeddings(layout, 8)
    features = {c.name: c.feature_names for c in embeddings.embedding_bag_configs()}
    assert set(features) == set(layout.tables)
    assert set(features["id_item"]) == {"id_item", "history"}
    assert all(p.is_meta for p in embeddings.parameters())


def test_initial_values_do_not_depend_on_the_shard(monkeypatch):
    whole = initial_rows("id_item", 7, torch.arange(50), range(16), 16)
    monkeypatch.setattr("foundrank.model.representation.embedding_tables._BLOCK_CELLS", 30)  # blocks of 3 rows
    shard = torch.empty(21, 6)
    initialise_table(shard, "id_item", 7, dim=16, row_offset=13, column_offset=4)
    torch.testing.assert_close(shard, whole[13:34, 4:10], rtol=0, atol=0)


def test_initial_values_are_uniform_and_depend_on_seed_and_table():
    values = initial_rows("id_item", 7, torch.arange(5000), range(16), 16)
    scale = 0.5 / 4
    assert values[0].eq(0).all()
    assert values.abs().max() <= scale
    assert abs(values.mean()) < 0.01 * scale
    torch.testing.assert_close(values.std(), torch.tensor(scale / 3**0.5), rtol=0.01, atol=0)
    correlations = torch.corrcoef(values.T) - torch.eye(16)
    assert correlations.abs().max() < 0.06
    for other in (initial_rows("id_user", 7, torch.arange(5000), range(16), 16), values.roll(1, 0), values.roll(1, 1)):
        assert abs(torch.corrcoef(torch.stack([values.flatten(), other.flatten()]))[0, 1]) < 0.02
    assert not initial_rows("id_item", 8, torch.arange(9), range(16), 16)[1:].eq(values[1:9]).any()


def test_initial_values_stay_the_same_between_versions():
    # Frozen: old runs are reproduced only while these numbers hold.
    values = initial_rows("id_item", 2026, torch.tensor([1, 123_456_789_012]), range(2), 4)
    torch.testing.assert_close(values, torch.tensor(FROZEN), rtol=0, atol=1e-7)


def test_materialise_gives_an_unsharded_model_its_tables(layout):
    model = nn.Module()
    model.embeddings = make_embeddings(layout, 8)
    materialise(model, seed=3)
    weight = model.embeddings.embedding_bags["id_item"].weight
    torch.testing.assert_close(weight.data, initial_rows("id_item", 3, torch.arange(20), range(8), 8))


def test_bags_are_sums_and_the_history_reads_the_item_table(layout, make_batch):
    model, batch = nn.Module(), make_batch(layout, [4, 3, 2])
    model.embeddings = make_embeddings(layout, 8)
    materialise(model, seed=3)
    pooled = model.embeddings(batch.sparse).to_dict()["history"]
    weight = model.embeddings.embedding_bags["id_item"].weight
    bags = [weight[bag].sum(0) for bag in batch.sparse["history"].to_dense()]
    torch.testing.assert_close(pooled, torch.stack(bags))


FROZEN = [[-0.2450200617313385, 0.07702192664146423], [0.11194553971290588, 0.02630367875099182]]
