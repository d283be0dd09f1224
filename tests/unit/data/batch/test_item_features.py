"""Features of past items and of candidates."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from foundrank.data.batch.assemble import assemble
from foundrank.data.batch.item_features import ItemFeatures
from foundrank.data.config.load import load_experiment
from foundrank.data.features.feature import FeatureColumns
from foundrank.model.kinds import KINDS

from ....tiny_world import SCHEMAS, encoder_of, random_events, write_world
from .test_assemble import COUNTS, TEXTS, row_lists
from .test_past_items import CANDIDATES, CATALOG, PAST, layout_of, rows_with_past, some_items


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.integers(0, PAST), max_size=4), min_size=2, max_size=2), st.integers(0, 9), st.integers(0, 99)
)
def test_features_of_past_items_and_candidates_are_what_the_catalog_says(lengths, candidates, seed):
    history = {"encoder": "sasrec", "features": ["price", "tags", "brand"]}
    layout = layout_of({"history": history, "next_item": {"negatives": 9}})
    brands, tags, prices = [3, -1, 1, 2, -1, 3], [[1], [], [2, 3], [], [4], [5, 1]], [0.5, 0, -1.0, 2.0, 3.0, 4.0]
    flat, offsets = np.array([t for row in tags for t in row]), np.cumsum([0, *map(len, tags)])
    columns = FeatureColumns(
        singles={"feature_brand": np.array(brands)},
        lists={"feature_tags": (flat, offsets)},
        dense={"price": np.array(prices, np.float32)},
    )
    features = ItemFeatures.of(layout, columns, CATALOG)
    parts = [rows_with_past(layout, d, of_domain, seed) for d, of_domain in enumerate(lengths)]
    rows, items = sum(map(len, lengths)), some_items(candidates, seed)
    batch = assemble(parts, layout, {"text_item": TEXTS}, rows + 8, COUNTS, items, features)
    past = batch.past
    assert past is not None
    bags = {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in batch.sparse.to_dict().items()}
    listed = [row for part in parts for row in row_lists(part.history["catalog"])]
    for key, known in (("feature_brand", [[b] if b >= 0 else [] for b in brands]), ("feature_tags", tags)):
        for back in range(PAST):
            expected = [known[row[-1 - back]] if back < len(row) and row[-1 - back] >= 0 else [] for row in listed]
            assert bags[f"past_{back}_{key}"] == expected + [[]] * 8
        of_candidates = [bag for k in range(CANDIDATES) for bag in bags[f"candidate_{k}_{key}"]]
        assert of_candidates[:candidates] == [known[at] if at >= 0 else [] for at in items.catalog_rows]
        assert not any(of_candidates[candidates:])
    every = [at for row in listed for at in row] + items.catalog_rows.tolist()
    assert past.dense.tolist() == [[prices[at] if at >= 0 else 0] for at in every]
    assert past.described.tolist() == [
        at >= 0 and (prices[at] != 0 or brands[at] >= 0 or len(tags[at]) > 0) for at in every
    ]
    layout = layout_of({"history": {"encoder": "din", "decoupled": True, "features": ["tags"]}})
    features = ItemFeatures.of(layout, columns, CATALOG)
    batch = assemble(parts, layout, {"text_item": TEXTS}, rows + 8, COUNTS, item_features=features)
    assert batch.past is not None
    listed = [at for row in listed for at in row]
    assert batch.past.dense.shape == (len(listed), 0)
    assert batch.past.described.tolist() == [at >= 0 and len(tags[at]) > 0 for at in listed]
    bags = {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in batch.sparse.to_dict().items()}
    wanted = [row for part in parts for row in row_lists(part.lists["history"])]
    for key in ("past_0", "attention_0"):  # before the features and behind them
        assert bags[key] == [row[-1:] for row in wanted] + [[]] * 8


def test_past_items_have_the_features_that_the_experiment_names(tmp_path):
    write_world(tmp_path, random_events(1, {"find": 40, "home": 40, "new": 10}))
    changes = ["model.history.encoder=sasrec", "model.next_item.negatives=5"]
    encoder = encoder_of(
        load_experiment(tmp_path, [*changes, "model.history.features=[brand, tags, price]"], kinds=KINDS)
    )
    assert encoder.layout.past_features == ("feature_brand", "feature_tags")
    assert [encoder.layout.dense[column] for column in encoder.layout.past_dense] == ["price"]
    row = dict.fromkeys(SCHEMAS["home"].names) | {"history": [3, 999, 2], "item": 2}
    rows = encoder.encode("home", pa.Table.from_pylist([row], schema=SCHEMAS["home"]), "here")
    listed = encoder.items(trained=False)
    batch = encoder.assemble([rows], 8, listed.take(listed.keys == 3))
    assert batch.past is not None
    bags = {key: [bag.tolist() for bag in jagged.to_dense()] for key, jagged in batch.sparse.to_dict().items()}
    for (
        key
    ) in encoder.layout.past_features:  # the newest is what the row shows; the oldest what there is to choose from
        assert bags[f"past_0_{key}"][0] == bags[key][0]
        assert bags[f"past_1_{key}"][0] == []
        assert bags[f"past_2_{key}"][0] == bags[f"candidate_0_{key}"][0]
    assert any(bags[key][0] + bags[f"past_2_{key}"][0] for key in encoder.layout.past_features)
    price = encoder.layout.dense.index("price")
    assert batch.past.dense[2].tolist() == batch.dense[0, [price]].tolist()
    assert batch.past.dense[:2].tolist() == [batch.past.dense[3].tolist(), [0]]
