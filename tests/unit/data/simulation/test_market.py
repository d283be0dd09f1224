"""The simulated market: labels of every kind follow the expectations written beside them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.simulation.market import NEGATIVE_RATE, SHARES, SPLITS
from foundrank.data.simulation.worlds import simulate
from foundrank.model.kinds import KINDS

ROWS = 40_000
LABELS = {
    "click": "p_click",
    "rating": "expected_rating",
    "dwell": "expected_dwell",
    "spend": "expected_spend",
    "units": "expected_units",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("world") / "a", ROWS, 7, "market").parent


def read(folder, domain: str, split: str) -> pa.Table:
    return pq.read_table(folder / "events" / domain / split)


@pytest.fixture(scope="module")
def shelf(folder):
    return pa.concat_tables([read(folder, "shelf", split) for split in SPLITS])


def column(table: pa.Table, name: str) -> np.ndarray:
    return table[name].cast(pa.float64()).to_numpy()


def test_its_experiment_fits_its_files(folder):
    experiment = load_experiment(folder / "experiment.yaml", kinds=KINDS)
    events = check_events(experiment)
    assert events.keys() <= SHARES.keys()
    assert all(set(of_split) == set(SPLITS) for of_split in events.values())
    assert sum(files["train"].rows for files in events.values()) > 0.5 * ROWS


@pytest.mark.parametrize(("label", "truth"), LABELS.items())
def test_labels_follow_their_expectations(shelf, label: str, truth: str):
    y, expected = column(shelf, label), column(shelf, truth)
    expected, y = expected[~np.isnan(y)], y[~np.isnan(y)]
    order = np.argsort(expected)
    for part in np.array_split(order, 5):  # not on the whole alone: a constant would do for that
        standard_error = y[part].std() / len(part) ** 0.5
        assert abs(y[part].mean() - expected[part].mean()) < 4 * standard_error


def test_conversions_are_known_where_there_was_a_click(shelf):
    click, converted = column(shelf, "click") > 0, column(shelf, "conversion")
    assert np.array_equal(np.isnan(converted), ~click)
    rate = column(shelf, "p_conversion")[click]
    assert abs(converted[click].mean() - rate.mean()) < 4 * 0.5 / click.sum() ** 0.5
    product = column(shelf, "p_click") * column(shelf, "p_conversion")
    np.testing.assert_allclose(column(shelf, "p_click_conversion"), product)


def test_attention_falls_with_the_position_of_a_ranked_list_alone(folder, shelf):
    ranked = read(folder, "results", "train")
    position = column(ranked, "position")
    first, shown = column(ranked, "p_click_first"), column(ranked, "p_click")
    np.testing.assert_allclose(first[position == 1], shown[position == 1])
    assert (shown[position > 1] < first[position > 1]).all()
    assert np.corrcoef(position, first)[0, 1] < -0.2  # what is better stands higher
    np.testing.assert_allclose(column(shelf, "p_click"), column(shelf, "p_click_first"))
    assert abs(np.corrcoef(column(shelf, "position"), column(shelf, "p_click"))[0, 1]) < 0.03


def test_lists_stay_together_and_splits_follow_time(folder):
    for domain in SHARES:
        parts = [read(folder, domain, split) for split in SPLITS]
        requests = np.concatenate([part["request"].to_numpy() for part in parts])
        times = np.concatenate([part["time"].to_numpy() for part in parts])
        assert (np.diff(requests) >= 0).all()
        assert (np.diff(times.astype(np.int64)) >= 0).all()
        assert not set(parts[0]["request"].to_pylist()) & set(parts[1]["request"].to_pylist())


def test_training_of_one_domain_lacks_most_rows_without_a_click(folder, shelf):
    train, test = read(folder, "sampled", "train"), read(folder, "sampled", "test")
    click, stands_for = column(train, "click"), column(train, "stands_for")
    assert set(stands_for[click > 0]) == {1.0}
    assert set(stands_for[click == 0]) == {1 / NEGATIVE_RATE}
    rate = np.average(click, weights=stands_for)
    assert abs(rate - column(test, "click").mean()) < 0.03 < click.mean() - rate
    assert set(column(test, "stands_for")) == {1.0}


def test_one_domain_does_not_know_its_users(folder):
    assert "user" not in read(folder, "kiosk", "train").column_names


def test_same_seed_same_files(tmp_path, folder):
    again = simulate(tmp_path / "again", ROWS, 7, "market").parent
    other = simulate(tmp_path / "other", ROWS, 8, "market").parent
    for file in sorted(path.relative_to(folder) for path in folder.rglob("*.*")):
        assert (folder / file).read_bytes() == (again / file).read_bytes()
    assert (folder / "catalogs/items.parquet").read_bytes() != (other / "catalogs/items.parquet").read_bytes()


def test_an_unknown_world_and_too_few_rows_are_refused(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'market'"):
        simulate(tmp_path / "a", world="markets")
    with pytest.raises(UserError, match="too few"):
        simulate(tmp_path / "a", 5_000, world="market")
    assert not (tmp_path / "a").exists()
