"""Users who say what they prefer: the real commands, and the same from Python."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from foundrank import load
from foundrank.data.errors import UserError

from .commands import Here, foundrank
from .test_bad_input import check_told

USERS, ITEMS, PAST = 400, 20, 3
EXPERIMENT = {
    "name": "tastes",
    "entities": {
        "user": {
            "id": "user_id",
            "catalog": {"path": "users.parquet", "key": "user_id"},
            "contents": {"taste": {"text": "{taste}"}},
            "history": {"max_length": PAST},
        },
        "item": {"id": "item_id"},
    },
    "domains": {"shop": {"kind": "recommendation", "events": {"train": "train.parquet"}}},
    "text": {"vectors": "random", "dimension": 16},
    "model": {
        "embedding_dim": 16,
        "width": 16,
        "history": {"encoder": "sasrec", "heads": 1, "dropout": 0, "prefix": ["taste"], "prefix_dropout": 0.3},
        "next_item": {"loss": "softmax"},
    },
    "training": {"epochs": 12, "batch_size": 32, "learning_rate": 0.02, "sparse_learning_rate": 0.2},
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pasts say nothing; whoever prefers odd items takes one, and whoever prefers even ones takes such a one."""
    folder, random = tmp_path_factory.mktemp("shop"), np.random.default_rng(1)
    odd = random.integers(0, 2, USERS)
    pasts = pa.array(random.integers(0, ITEMS, (USERS, PAST)).tolist(), pa.list_(pa.int64()))
    items = 2 * random.integers(0, ITEMS // 2, USERS) + odd
    pq.write_table(pa.table({"user_id": range(USERS), "item_id": items, "history": pasts}), folder / "train.parquet")
    tastes = ["odd numbers" if of else "even numbers" for of in odd]
    pq.write_table(pa.table({"user_id": range(USERS), "taste": tastes}), folder / "users.parquet")
    (folder / "experiment.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    new = {"user_id": range(USERS, USERS + 30), "history": pa.array([*[[4, 7]] * 20, *[[]] * 10], pa.list_(pa.int64()))}
    pq.write_table(pa.table(new), folder / "new.parquet")
    foundrank("embed", folder)
    return folder


def odd_share(lists: pa.Table) -> float:
    return float(np.mean(np.array(lists["items"].to_pylist()) % 2))


def test_what_is_said_of_users_decides_what_they_get(shop: Path, tmp_path: Path, here: Here):
    foundrank("train", shop, "--run-dir", tmp_path / "run", "-p", 2)
    run, users = load(tmp_path / "run"), pq.read_table(shop / "new.parquet")
    asked = ("recommend", tmp_path / "run", shop / "new.parquet")
    foundrank(*asked, tmp_path / "odd", "-k", 5, "--preference", "odd numbers", "-p", 2)
    odd = run.recommend(users, k=5, preference="odd numbers")
    assert odd.equals(pq.read_table(tmp_path / "odd", schema=odd.schema))
    assert odd_share(odd) > 0.9  # new users without a past among them
    assert odd_share(run.recommend(users, k=5, preference="even numbers")) < 0.1
    assert 0.1 < odd_share(run.recommend(users, k=5)) < 0.9
    # Users whom the catalog knows have said what they prefer, and what is said of all counts instead.
    known = pq.read_table(shop / "train.parquet").select(["user_id", "history"])
    assert 0.3 < odd_share(run.recommend(known, k=3)) < 0.7
    assert odd_share(run.recommend(known, k=3, preference="odd numbers")) > 0.9
    # A column of texts says it of each; what it does not say, the catalog does.
    texts = pa.array(["odd numbers", "even numbers", None] * 10)
    each = run.recommend(users.append_column("taste", texts), k=5)["items"].to_pylist()
    plain = run.recommend(users, k=5)["items"].to_pylist()
    even = run.recommend(users, k=5, preference="even numbers")["items"].to_pylist()
    wanted = [(odd["items"].to_pylist(), even, plain)[row % 3][row] for row in range(30)]
    assert each == wanted
    assert run.recommend(known.append_column("taste", pa.nulls(USERS, pa.string())), k=3) == run.recommend(known, k=3)
    check_told(here(*asked, tmp_path / "odd", "-k", 5, "--preference", "even numbers"), ["preference differ"])
    with pytest.raises(UserError, match="--preference: is empty"):
        run.recommend(users, preference=" ")


def test_a_preference_means_nothing_where_no_place_is_for_one(shop: Path, tmp_path: Path, here: Here):
    settings = "model.history.prefix=[]; training.epochs=1"
    foundrank("train", shop, "--run-dir", tmp_path / "run", "-p", 1, "--set", settings)
    asked = ("recommend", tmp_path / "run", shop / "new.parquet", tmp_path / "out", "--preference", "odd")
    check_told(here(*asked), ["--preference", "has no content of the user in model.history.prefix"])
    assert not (tmp_path / "out").exists()
    # A fine-tuning may add one.
    more = f"init_from={tmp_path / 'run'}; training.epochs=1"
    told = foundrank("train", shop, "--run-dir", tmp_path / "tuned", "-p", 1, "--set", more).stdout
    assert "new, with initial values: history.prefix.kinds, history.prefix.places.taste" in " ".join(told.split())
    again = foundrank("train", shop, "--run-dir", tmp_path / "again", "-p", 1, "--set", more.replace("run;", "tuned;"))
    assert "with initial values" not in again.stdout
