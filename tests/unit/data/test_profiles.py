import numpy as np
import pyarrow.parquet as pq
import pytest

from foundrank.data.profiles import domain_profiles, mixture
from tests.unit.data.tiny_world import encoder_of, random_events, text_vectors, train_files, write_world

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
    assert mixture("find", True, {}, {"a": False, "b": False}) == {"a": 0.5, "b": 0.5}  # none of its kind


def test_a_profile_is_the_mean_text_of_the_first_rows(tmp_path):
    events = random_events(5, {"find": 30, "home": 20, "new": 10})
    experiment = write_world(tmp_path, events, files=2, group=4)
    encoder = encoder_of(experiment)
    vectors = text_vectors(pq.read_table(tmp_path / "items.parquet").to_pylist())
    found = domain_profiles(encoder, train_files(experiment))
    for name, rows in events.items():
        total = sum((vectors[row["item"]].astype(float) for row in rows if row["item"] in vectors), np.zeros(4))
        np.testing.assert_allclose(found[name], total / len(rows), rtol=1e-6)
