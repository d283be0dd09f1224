"""The benchmarks: target encodings do not leak, the trees' matrix holds what it says, tables say what was measured."""

import importlib
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import baselines
from benchmarks.comparison_table import (
    compare,
    losses,
    mean_interval,
    tables,
)
from benchmarks.target_encoding import FOLDS, NOT_TRAINING, STRENGTH, TargetEncoding, make_folds
from benchmarks.tree_features import item_profile, matrix, shared_columns, target_columns
from foundrank.data.batch.rows import concatenate
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import expected_manifest, store_folder
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.schema.layout import HISTORY, id_key
from foundrank.data.simulation.worlds import simulate
from foundrank.dist.compare.intervals import TestRows
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.kinds import KINDS
from foundrank.model.tasks.count import Count
from foundrank.model.tasks.metrics import auc
from tests.content_store import write_store


@pytest.mark.parametrize("path", sorted(Path(baselines.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_finds_what_it_imports(path: Path):
    try:
        importlib.import_module(f"benchmarks.{path.stem}")
    except ModuleNotFoundError as error:  # of another project, whose model is measured against
        if error.name != "recbole":
            raise


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A small simulated experiment whose items and queries have random text vectors, and its encoder."""
    folder = tmp_path_factory.mktemp("world") / "simulated"
    simulate(folder, rows=20_000, seed=7)
    experiment = load_experiment(folder, kinds=KINDS)
    random = np.random.default_rng(0)
    for name, entity in experiment.entities.present().items():
        keys = pq.read_table(entity.catalog.path)[entity.catalog.key].combine_chunks()
        vectors = random.normal(size=(len(keys), 20))
        store = store_folder(experiment, Stored(name, "text"))
        write_store(store, keys, np.arange(len(keys)), vectors, expected_manifest(experiment, Stored(name, "text")))
    events = check_events(experiment)
    return experiment, baselines.encoder_of(experiment, {name: of["train"] for name, of in events.items()}), events


def read(world, domain, split):
    _, encoder, events = world
    return baselines.read_rows(encoder, domain, events[domain][split], split == "train")


def test_trees_have_the_rates_of_the_model_which_leave_out_a_rows_own_label(world):
    experiment, encoder, events = world
    experiment = experiment.model_copy(update={"model": experiment.model.model_copy(update={"rates": True})})
    train = {name: of["train"] for name, of in events.items()}
    encoder = baselines.encoder_of(experiment, train)
    rates = [at for at, name in enumerate(encoder.layout.dense) if name == "id_item.click.rate"]
    assert len(rates) == 1
    own, all_of = (baselines.read_rows(encoder, "shop_search", train["shop_search"], of) for of in (True, False))
    labels = own.labels[:, encoder.layout.tasks.index("click")]
    honest, leaking = (auc(labels, rows.dense[:, rates[0]]) for rows in (own, all_of))
    assert 0.5 < honest < leaking - 0.02
    rows = baselines.read_rows(encoder, "shop_search", events["shop_search"]["test"], False)
    profile = item_profile(experiment, encoder.layout, [own])
    columns = shared_columns(rows, np.zeros(len(rows), bool), encoder, profile)
    assert np.array_equal(columns["dense id_item.click.rate"], rows.dense[:, rates[0]])


@pytest.mark.parametrize("in_order", [True, False])
def test_noise_id_gives_no_signal(in_order):
    """A random id of about two rows each: its encoding, and trees fitted on it, know nothing; without folds they would."""
    random = np.random.default_rng(1)
    rows, size = 9000, 3000
    codes, labels = random.integers(size, size=rows), random.integers(2, size=rows).astype(float)
    split = np.repeat([0, 1, 2], [5000, 2000, 2000])
    folds = make_folds(np.arange(rows), split == 0, in_order, seed=0)
    encoding = TargetEncoding.fit(codes, size, labels, np.ones(rows, bool), folds)
    rates, seen = encoding.encode(codes, folds)
    leaking, _ = encoding.encode(codes, np.full(rows, NOT_TRAINING))
    train = split == 0
    assert auc(labels[train], leaking[train]) > 0.75
    assert auc(labels[train], rates[train]) == pytest.approx(0.5, abs=0.03)

    table = np.column_stack([rates, seen]).astype(np.float32)
    parts = [np.flatnonzero(split == part) for part in range(3)]
    probabilities, _ = baselines.fit_best({"only": table}, labels, parts, seed=0)
    assert auc(labels[parts[2]], probabilities) == pytest.approx(0.5, abs=0.04)


@settings(max_examples=50)
@given(st.data())
def test_encoding_counts_other_folds_only(data):
    rows = data.draw(st.integers(1, 40))
    draw = [data.draw(st.lists(s, min_size=rows, max_size=rows)) for s in (st.integers(-1, 3), st.booleans(), st.booleans(), st.integers(-1, FOLDS - 1))]  # fmt: skip
    codes, labels, known, folds = (np.array(values) for values in draw)
    encoding = TargetEncoding.fit(codes, 4, labels.astype(float), known, folds)
    rates, seen = encoding.encode(codes, folds)
    prior = labels[known & (folds >= 0)].mean() if (known & (folds >= 0)).any() else 0.0
    for i in range(rows):
        if codes[i] < 0:
            assert np.isnan(rates[i])
            assert np.isnan(seen[i])
            continue
        others = (codes == codes[i]) & known & (folds >= 0)
        others &= folds != folds[i] if folds[i] >= 0 else True
        assert rates[i] == pytest.approx((labels[others].sum() + STRENGTH * prior) / (others.sum() + STRENGTH))
        assert seen[i] == pytest.approx(others.sum() * (1.25 if folds[i] >= 0 else 1.0))


@pytest.mark.parametrize("in_order", [True, False])
def test_whole_lists_share_a_fold(in_order):
    """One positive in every list of five: a user's rate must not depend on the row."""
    lists = np.repeat(np.random.default_rng(0).permutation(40), 5).astype(np.uint64)
    labels = np.tile([1.0, 0, 0, 0, 0], 40)
    folds = make_folds(lists, np.ones(200, bool), in_order, seed=3)
    assert set(folds) == set(range(FOLDS))
    assert (np.diff(folds) >= 0).all() == in_order
    encoding = TargetEncoding.fit(np.zeros(200, np.int64), 1, labels, np.ones(200, bool), folds)
    rates, _ = encoding.encode(np.zeros(200, np.int64), folds)
    assert rates == pytest.approx(np.full(200, 0.2))


def test_list_encoding_is_the_mean_of_its_ids():
    codes, offsets = np.array([0, 1, 1]), np.array([0, 2, 2, 3])
    labels, folds = np.array([1.0, 0, 0]), np.array([0, 1, 2])
    row = np.array([0, 0, 2])
    encoding = TargetEncoding.fit(codes, 2, labels[row], np.ones(3, bool), folds[row])
    one, _ = encoding.encode(codes, folds[row])
    got = encoding.encode_lists((codes, offsets), folds)
    assert got[[0, 2]] == pytest.approx([one[:2].mean(), one[2]])
    assert np.isnan(got[1])


def test_matrix_of_a_search_domain(world):
    experiment, encoder, _ = world
    layout = encoder.layout
    train = [read(world, name, "train") for name in experiment.domains]
    rows = concatenate([read(world, "video_search", "train"), read(world, "video_search", "test")])
    training = np.arange(len(rows)) < len(read(world, "video_search", "train"))
    shared = shared_columns(rows, training, encoder, item_profile(experiment, layout, train))
    folds = make_folds(rows.host["list"], training, in_order=True, seed=0)
    columns = shared | target_columns(rows, layout, layout.tasks.index("click"), folds)
    assert {values.shape for values in columns.values()} == {(len(rows),)}
    table, names = matrix(columns, np.flatnonzero(training))
    assert table.shape == (len(rows), len(names))
    assert table.dtype == np.float32
    wanted = {"rate id_user", "rate id_item", "rate id_query", "rows id_item", "rate history", "dense duration"}
    wanted |= {"rate feature_creator", "rate id_query x id_item", "count item", "text_item component 15"}
    wanted |= {"cosine of item and history", "nearest in history to item", "history holds feature_brand"}
    assert wanted <= set(names)
    assert not {"dense distance", "rate feature_seller", "dense days_ahead"} & set(names)  # of other domains

    # Crosses and cosines, one row at a time.
    item = rows.singles[:, layout.keys.index(id_key("item"))]
    values, offsets = rows.lists[HISTORY]
    texts, text_offsets = rows.history["text_item"]
    vectors = encoder.contents["text_item"].vectors.numpy().astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for i in range(0, len(rows), len(rows) // 50):
        history = values[offsets[i] : offsets[i + 1]]
        assert shared["history holds item"][i] == (history == item[i]).sum() * (item[i] > 0)
        of_text = vectors[texts[text_offsets[i] : text_offsets[i + 1]]]
        if not len(of_text):
            assert np.isnan(shared["nearest in history to item"][i])
            continue
        mine, mean = vectors[rows.content_rows["text_item"][i]], of_text.mean(0)
        assert shared["nearest in history to item"][i] == pytest.approx((of_text @ mine).max(), abs=1e-3)
        cosine = mean @ mine / np.linalg.norm(mean)
        assert shared["cosine of item and history"][i] == pytest.approx(cosine, abs=1e-3)


def test_trees_of_two_domains(world, monkeypatch):
    experiment, encoder, _ = world
    monkeypatch.setattr(baselines, "GRID", ((0.1, 15),))
    monkeypatch.setattr(baselines, "MAX_TREES", 30)
    few = {name: experiment.domains[name] for name in ("shop_search", "coupons_feed")}
    rows, predictions = baselines.run_trees(experiment.model_copy(update={"domains": few}), seed=0)
    every = {(r["domain"], r["task"]): r for r in rows if r["slice"] == "all"}
    assert len(every) == 4
    click = every["shop_search", "click"]
    assert click["popularity_auc"] < click["auc"] < click["oracle_auc"]
    assert click["leaves"] == 15
    assert click["folds"] in ("in order", "random")
    fewer, _ = baselines.run_trees(experiment.model_copy(update={"domains": few}), seed=0, drop="^rate|component")
    assert max(r["columns"] for r in fewer) < min(r["columns"] for r in rows) - 16
    again, _ = baselines.run_trees(experiment.model_copy(update={"domains": few}), seed=0)
    assert again == rows

    # Predictions name the rows they are of.
    assert set(predictions) == set(every)
    held, test = predictions["shop_search", "conversion"], read(world, "shop_search", "test")
    at = encoder.layout.tasks.index("conversion")
    assert held.at.tolist() == np.flatnonzero(test.label_mask[:, at]).tolist()
    assert held.labels.tolist() == test.labels[held.at, at].tolist()
    assert held.cold.sum() == next(r["rows"] for r in rows if (r["domain"], r["task"], r["slice"]) == ("shop_search", "conversion", "cold_items"))  # fmt: skip
    assert auc(held.labels, held.probabilities) == every["shop_search", "conversion"]["auc"]


def test_a_task_that_is_not_binary_is_told(world):
    experiment = world[0]
    domain = experiment.domains["shop_feed"]
    changed = domain.model_copy(update={"tasks": {"place": Count(label="position")}})
    with pytest.raises(UserError, match=r"domains\.shop_feed\.tasks\.place: is not of kind binary"):
        baselines.run_trees(experiment.model_copy(update={"domains": {"shop_feed": changed}}), seed=0)


def test_missing_split_is_told(world):
    experiment, _, _ = world
    domain = experiment.domains["shop_feed"]
    changed = domain.model_copy(update={"events": domain.events.model_copy(update={"validation": None})})
    with pytest.raises(UserError, match=r"shop_feed.*no validation split"):
        baselines.run_trees(experiment.model_copy(update={"domains": {"shop_feed": changed}}), seed=0)


def evaluation(task, **auc_of):
    """Rows as in ``evaluation.json``, 100 test rows with 20 positives each."""
    return [
        {"domain": d, "task": task, "slice": "all", "rows": 100, "positives": 20, "auc": a}
        | {"popularity_auc": 0.6, "oracle_auc": None}
        for d, a in auc_of.items()
    ]


def test_intervals():
    assert mean_interval([0.7]) == (0.7, None)
    mean, half = mean_interval([0.70, 0.72, 0.74])
    assert (mean, half) == (pytest.approx(0.72), pytest.approx(4.302653 * 0.02 / math.sqrt(3)))


def paired(random, users, rows, first, second, seeds=1):
    """Rows whose scores are the label times a strength plus noise, one strength per model."""
    labels = random.integers(2, size=rows)
    sides = [strength * labels + random.normal(size=(seeds, rows)) for strength in (first, second)]
    return TestRows(labels, random.integers(users, size=rows), np.zeros(rows, bool), *sides)


def test_table_and_losses():
    trees = [evaluation("buy", a=0.70, b=0.80), evaluation("buy", a=0.70, b=0.82)]
    foundrank = [evaluation("buy", a=0.75, b=0.55), evaluation("buy", a=0.77, b=0.57)]
    tests = {name: paired(np.random.default_rng(0), 100, 100, *sides) for name, sides in (("a", (3, 1)), ("b", (0, 3)))}
    lines = compare(trees, foundrank, tests, "buy", "all")
    assert [line.domain for line in lines] == ["a", "b", "**mean**"]
    assert lines[2].foundrank == pytest.approx((0.65, 0.67))
    assert lines[2].rows == 200
    text = tables(trees, foundrank, {"buy": tests})
    row = next(line for line in text.splitlines() if line.startswith("| a "))
    low, high = lines[0].interval
    assert 0 < low < high
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "a", "100", "–", "0.6000", "0.7000 ± 0.0000", "0.7600 ± 0.1271", "+0.1600 ± 0.1271",
        f"+0.0600 [{low:+.4f}, {high:+.4f}]",
    ]  # fmt: skip
    found = losses(lines)
    assert found[0] == "b: -0.2500 to trees, an interval below 0"
    assert found[1] == "b: -0.0400 to popularity"
    assert found[2].startswith("mean: -0.0950 to trees")
    assert "never seen" not in text  # no cold items here


def test_other_test_rows_are_refused():
    other = [row | {"rows": 99} for row in evaluation("buy", a=0.7)]
    with pytest.raises(UserError, match="different rows"):
        compare([other], [evaluation("buy", a=0.7)], {}, "buy", "all")


def test_sections_are_appended_and_replaced(tmp_path):
    path = tmp_path / "docs" / "results.md"
    write_section(path, "one", "first")
    write_section(path, "two", "second")
    path.write_text(path.read_text() + "\nby hand\n")
    write_section(path, "one", "first again\n")
    assert path.read_text() == (
        "# Results\n\n<!-- one -->\nfirst again\n<!-- /one -->\n\n<!-- two -->\nsecond\n<!-- /two -->\n\nby hand\n"
    )
    path.write_text("<!-- one -->\n")
    with pytest.raises(UserError, match="without the other"):
        write_section(path, "one", "lost")
    assert path.read_text() == "<!-- one -->\n"
