"""Several contents on two ranks: what is computed is that of one, and a fine-tuning may have contents that the run had not."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.contents.content_store import expected_manifest, store_folder
from foundrank.data.errors import UserError
from foundrank.dist.fine_tuning.pretrained import pretrained
from foundrank.model.kinds import KINDS
from tests.content_store import write_store

from .harness import run_ranks
from .rank_work import train_run, train_steps, whole
from .small_events import write_events, write_experiment
from .test_fine_tuning import begin, weights_of_run
from .test_sharded_equals_unsharded import RANKS, STEPS, reference

CONTENTS = {
    "words": {"text": "{category} {tags}"},
    "kind": {"text": "{category}"},
    "look": {"vector": "picture", "size": 4},
}
PAST = (
    "model.history={encoder: sasrec, dropout: 0, features: [category, picture]}",
    "model.next_item={negatives: 20, positions: all}",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world's experiment, and in a file of its own the one with contents, whose stores are written."""
    folder = tmp_path_factory.mktemp("contents")
    write_events(folder)
    raw = json.loads(write_experiment(folder).read_text())
    raw["text"] = {"store": "store"}
    raw["entities"]["item"]["contents"] = CONTENTS
    path = folder / "contents.yaml"
    path.write_text(json.dumps(raw))
    experiment = load_experiment(path, kinds=KINDS)
    keys = pq.read_table(folder / "items.parquet")["item_id"].to_numpy()[:-2]  # and two without a text
    for at, of in enumerate(experiment.stored()):
        vectors = np.random.default_rng(at).normal(size=(len(keys), 6))
        manifest = expected_manifest(experiment, of)
        write_store(store_folder(experiment, of), pa.array(keys), np.arange(len(keys)), vectors, manifest)
    return path


def small(path: Path, *changes: str) -> Experiment:
    return load_experiment(path, ["training.epochs=1", "training.learning_rate=0.003", *changes], kinds=KINDS)


SIMILAR = ("model.similarity={bins: 4, top: [1, 3]}",)


@pytest.mark.parametrize("of_history", [(), PAST, SIMILAR], ids=["pooled", "past items", "similarity"])
def test_training_equals_the_unsharded_reference(world: Path, of_history):
    experiment = small(world, "training.sharding=row_wise", *of_history)
    wanted, ranks = reference(experiment), run_ranks(train_steps, RANKS, experiment, STEPS)
    losses = [rank.losses[step] for step in range(STEPS) for rank in ranks]
    np.testing.assert_allclose(losses, wanted.losses, rtol=0, atol=2e-4)
    for name, value in ranks[0].dense.items():
        np.testing.assert_allclose(value, wanted.dense[name], rtol=0, atol=2e-3, err_msg=name)
    projections = {name.split("text_projections.")[1].split(".")[0] for name in wanted.dense if "text_proj" in name}
    assert projections == {"item_words", "item_kind", "item_look"}
    tables = whole([rank.tables for rank in ranks])
    for name, table in whole([wanted.tables]).items():
        np.testing.assert_allclose(tables[name], table, rtol=0, atol=2e-3, err_msg=name)


def test_contents_may_come_and_go_in_a_fine_tuning(world: Path, tmp_path: Path):
    plain, whole_world = world.parent / "experiment.yaml", world
    run = tmp_path / "run"
    run_ranks(train_run, 2, small(plain, "text={store: store}"), run)
    ((_, old),) = run_ranks(weights_of_run, 1, run)
    more = small(whole_world, f"init_from={run}", "training.freeze=[L0, L1]", *SIMILAR)
    ((_, (_, begun), told),) = run_ranks(begin, 1, more)
    assert any("text_projections.item_words" in line for line in told if line.startswith("new, with initial values"))
    assert all(np.array_equal(begun[name], value) for name, value in old.items() if value.shape == begun[name].shape)
    key = next(name for name in old if name.endswith("gates.item.bias"))
    assert old[key].shape == (2,)
    assert begun[key].shape == (5,)  # id, words, kind, look, sparse: new ones begin as the mean of the others
    np.testing.assert_allclose(begun[key], [old[key][0], *[old[key].mean()] * 3, old[key][1]], rtol=1e-6)

    grown = tmp_path / "grown"
    run_ranks(train_run, 2, more, grown)
    ((_, learnt),) = run_ranks(weights_of_run, 1, grown)
    for name, value in learnt.items():
        if "text_projections" in name:
            assert not np.array_equal(value, begun[name]), name  # what is new learns in a frozen level
        elif "id_projections" in name:
            np.testing.assert_array_equal(value, begun[name])

    ((_, (_, less), _),) = run_ranks(begin, 1, small(plain, "text={store: store}", f"init_from={grown}"))
    assert less.keys() == old.keys()
    np.testing.assert_array_equal(less[key], learnt[key][[0, 4]])
    other = "entities.item.contents={words: {text: '{tags}'}, look: {vector: picture, size: 5}}"
    with pytest.raises(UserError, match=r"entities.item.contents.look.size: 4 there, 5 here"):
        pretrained(small(whole_world, other, f"init_from={grown}"))
