import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.dist.fine_tuning.domain_profiles import domain_profiles, mixture
from foundrank.model.kinds import KINDS
from tests.tiny_world import Row, encoder_of, random_events, text_vectors, train_files, write_world

KNOWN = {"shop_search": True, "shop_feed": False, "video_feed": False}
PROFILES = {"shop_search": [1.0, 0.0], "shop_feed": [1.0, 0.1], "video_feed": [-1.0, 0.1]}


def test_a_new_domain_is_most_of_what_its_items_are_like():
    near = mixture("kids", False, PROFILES | {"kids": [0.9, 0.1]}, KNOWN)
    assert set(near) == {"shop_feed", "video_feed"}  # those of its kind
    assert near["shop_feed"] > 0.99
    far = mixture("kids", False, PROFILES | {"kids": [-0.9, 0.1]}, KNOWN)
    assert far["video_feed"] > 0.99
    assert sum(near.values()) == pytest.approx(1)


def test_without_profiles_all_of_its_kind_weigh_the_same():
    assert mixture("kids", False, {}, KNOWN) == {"shop_feed": 0.5, "video_feed": 0.5}
    assert mixture("kids", False, PROFILES, KNOWN) == {"shop_feed": 0.5, "video_feed": 0.5}
    of_another_size = PROFILES | {"kids": [0.9, 0.1, 0.3]}
    assert mixture("kids", False, of_another_size, KNOWN) == {"shop_feed": 0.5, "video_feed": 0.5}
    assert mixture("find", True, {}, {"a": False, "b": False}) == {"a": 0.5, "b": 0.5}  # none of its kind


def right_profile(rows: list[Row], vectors: dict[int, np.ndarray]) -> np.ndarray:
    return np.mean([vectors[row["item"]].astype(float) for row in rows if row["item"] in vectors], axis=0)


def test_a_profile_is_the_mean_text_of_the_rows_that_have_one(tmp_path):
    events = random_events(5, {"find": 30, "home": 20, "new": 10})
    for row in events["new"]:
        row["item"] = None
    experiment = write_world(tmp_path, events, files=2, group=4)
    encoder = encoder_of(experiment)
    vectors = text_vectors(pq.read_table(tmp_path / "items.parquet").to_pylist())
    found = domain_profiles(encoder, train_files(experiment))
    assert set(found) == {"find", "home"}
    for name in found:
        np.testing.assert_allclose(found[name], right_profile(events[name], vectors), rtol=1e-6)


def test_bad_rows_are_in_no_profile(tmp_path):
    events = random_events(5, {"find": 30, "home": 20, "new": 10})
    for row in events["find"][::3]:
        row["rank"] = math.nan
    write_world(tmp_path, events, files=2, group=4)
    experiment = load_experiment(tmp_path, ["bad_data.policy=skip", "bad_data.max_share=0.5"], kinds=KINDS)
    found = domain_profiles(encoder_of(experiment), train_files(experiment))
    vectors = text_vectors(pq.read_table(tmp_path / "items.parquet").to_pylist())
    good = [row for at, row in enumerate(events["find"]) if at % 3]
    np.testing.assert_allclose(found["find"], right_profile(good, vectors), rtol=1e-6)
