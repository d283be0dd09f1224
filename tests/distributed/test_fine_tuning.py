"""Fine-tuning begins with a run's weights, from any number of ranks and any plan."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.experiment import Experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.counting.statistics import Statistics
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.dist.fine_tuning import begin as fine_tuning
from foundrank.dist.fine_tuning.pretrained import pretrained
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.run.checkpoint_writer import load
from foundrank.dist.run.kept_checkpoints import best
from foundrank.dist.run.run_folder import open_run
from foundrank.dist.sharding.shard import shard
from foundrank.dist.train import prepare
from foundrank.model.foundation.transfer import shapes_only
from foundrank.model.layers.axes import levels_of

from .harness import run_ranks
from .rank_work import dense_of, tables_of, train_run, whole

KNOWN, NEW = "only=[shop_search, shop_feed, video_search, video_feed]", "only=[coupons_feed]"
Weights = tuple[dict[str, Any], dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def base(small, tmp_path_factory) -> Path:
    """A run on two ranks that knows neither the new domain nor all of its items."""
    run = tmp_path_factory.mktemp("base") / "run"
    run_ranks(train_run, 2, small(KNOWN, "training.sharding=row_wise", "training.keep_best=false"), run)
    return run


def weights_of_run(runtime: Runtime, run: Path) -> Weights:
    experiment, statistics = open_run(run)
    sharded = shard(statistics.layout(experiment), experiment, runtime)
    load(best(run), sharded)
    return tables_of(sharded), dense_of(sharded)


def begin(runtime: Runtime, experiment: Experiment) -> tuple[Weights, Weights, list[str]]:
    """Before and after the run's weights are there, and what was told."""
    fine_tuning._FEW = 20  # the world is small
    base = pretrained(experiment)
    events = check_events(experiment, ["train"])
    counted = count(experiment, {name: splits["train"] for name, splits in events.items()})
    encoder = RowEncoder(experiment, base.statistics.extended(counted))
    sharded = shard(encoder.layout, experiment, runtime)
    before = tables_of(sharded), dense_of(sharded)
    told = fine_tuning.begin_from(base, sharded, encoder, runtime)
    return before, (tables_of(sharded), dense_of(sharded)), told


@pytest.mark.parametrize(("ranks", "sharding"), [(1, "auto"), (2, "column_wise"), (2, "row_wise")])
def test_known_ids_keep_their_rows_and_new_ones_follow_their_text(base, small, ranks, sharding):
    experiment = small(NEW, f"init_from={base}", f"training.sharding={sharding}")
    parts = run_ranks(begin, ranks, experiment)
    initial, found = (whole([part[number][0] for part in parts]) for number in (0, 1))
    ((tables, dense),) = run_ranks(weights_of_run, 1, base)
    known = whole([tables])
    for name, rows in found.items():
        if name not in known:
            np.testing.assert_array_equal(rows, initial[name])
            continue
        old = len(known[name])
        np.testing.assert_array_equal(rows[:old], known[name])
        wanted = initial[name][old:]
        if name in ("id_user", "id_item"):
            wanted = ridge(experiment, open_run(base)[1], name.removeprefix("id_"), known[name], wanted)
        np.testing.assert_allclose(rows[old:], wanted, atol=1e-6)
    assert len(found["id_item"]) > len(known["id_item"]) + 5
    for (_, mine), other in zip([part[1] for part in parts], [part[1][1] for part in parts[:1]] * ranks, strict=True):
        for name, value in mine.items():
            np.testing.assert_array_equal(value, other[name])
            if "represent" in name and value.shape == dense[name].shape and "sparse_aspects" not in name:
                np.testing.assert_array_equal(value, dense[name])
    assert any("coupons_feed begins as" in line for line in parts[0][2])


def begun(runtime: Runtime, experiment: Experiment, run: Path, alone: int) -> None:
    prepare.COUNTED_ALONE = alone
    prepare.begin_run(runtime.on_main(lambda: prepare.prepare(experiment, run)), runtime)


def test_what_all_ranks_have_counted_is_added_to_the_run_as_what_one_has(base, small, tmp_path):
    experiment = small(NEW, f"init_from={base}")
    vocabularies = []
    for name, alone in (("one", 2**40), ("all", 0)):
        run_ranks(begun, 2, experiment, tmp_path / name, alone)
        folder = tmp_path / name / "vocabulary"
        vocabularies.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert vocabularies[0] == vocabularies[1]
    known, found = (open_run(run)[1].tables["id_item"].rows for run in (base, tmp_path / "all"))
    assert found > known + 5
    run_ranks(train_run, 2, experiment, tmp_path / "all")  # goes on with it
    assert any((tmp_path / "all" / "checkpoints").glob("step_*/COMMITTED"))


def ridge(experiment: Experiment, known: Statistics, entity: str, table: np.ndarray, initial: np.ndarray) -> np.ndarray:
    """What scikit-learn's regression says of new ids; their initial values where they have no text."""
    from sklearn.linear_model import Ridge

    events = check_events(experiment, ["train"])
    counted = count(experiment, {name: splits["train"] for name, splits in events.items()})
    statistics = known.extended(counted)
    encoder = RowEncoder(experiment, statistics)
    ids, before = statistics.tables[f"id_{entity}"], known.tables[f"id_{entity}"]
    content = encoder.contents[f"text_{entity}"]
    at = content.rows(ids.keys)
    texts, worded = content.vectors.float().numpy()[at], at >= 0
    chosen = (before.counts[1:] >= 5) & worded[: before.rows - 1]
    x, y = texts[: before.rows - 1][chosen], table[1:][chosen]
    model = Ridge(alpha=0.1 * float(np.square(x).sum(0).mean()), fit_intercept=True, tol=1e-9).fit(x, y)
    new = slice(before.rows - 1, None)
    return np.where(worded[new][:, None], model.predict(texts[new]), initial)


@pytest.mark.parametrize("sharding", ["row_wise", "column_wise"])
def test_frozen_levels_stay_and_what_is_new_in_them_learns(base, small, tmp_path, sharding):
    experiment = small(
        NEW, f"init_from={base}", "training.freeze=[L0, L1]", "training.epochs=2", f"training.sharding={sharding}",
        "training.weight_decay=1", "training.sparse_learning_rate=1",
    )  # fmt: skip
    ((_, (begun_tables, begun), _),) = run_ranks(begin, 1, experiment)
    run_ranks(train_run, 2, experiment, tmp_path / "run")
    ((tables, dense),) = run_ranks(weights_of_run, 1, tmp_path / "run")
    before, learnt = whole([begun_tables]), whole([tables])
    known = open_run(base)[1].tables
    learning = set()
    for name, rows in before.items():
        old = known[name].rows if name in known else 0
        np.testing.assert_array_equal(rows[:old], learnt[name][:old], err_msg=name)
        if not np.array_equal(rows[old:], learnt[name][old:]):
            learning.add(name)
    assert {"id_item", "feature_discount"} <= learning
    layout = open_run(tmp_path / "run")[1].layout(experiment)
    levels = levels_of(shapes_only(layout, experiment.model))
    changed = {level: set() for level in ("L0", "L1", "L2", "L3")}
    for name, value in dense.items():
        if "conditioned" in name:  # the basis of what is frozen, whatever the catalog holds by now
            np.testing.assert_array_equal(value, begun[name])
            continue
        changed[levels[name.removeprefix("dense.")]] |= {name} if not np.array_equal(value, begun[name]) else set()
    assert not changed["L0"]
    assert changed["L2"]
    assert changed["L3"]
    (partly,) = changed["L1"]  # the weights of the domain's own feature
    assert partly.endswith("sparse_aspects.context.projection.0.weight")
    assert (dense[partly] != begun[partly]).any(0).sum() == experiment.model.embedding_dim
    assert not begun[partly][:, (dense[partly] != begun[partly]).any(0)].any()


def test_tables_freeze_under_row_wise_adagrad_only(small):
    with pytest.raises(UserError, match="known ones stay"):
        small(NEW, "init_from=run", "training.freeze=[L0]", "training.sparse_optimizer=sgd")
