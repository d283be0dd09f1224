"""The rates of encoded rows: no label of a row is in its own, and those of others are as a slow count says."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from foundrank.data.batch import rate_counting
from foundrank.data.batch.rate_counting import count_rates, rate_matrix
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.counting.statistics import Statistics
from foundrank.data.epoch.order import deal, epoch_chunks
from foundrank.data.epoch.reader import Reader
from foundrank.data.errors import UserError
from foundrank.data.rates import rates, sums
from foundrank.data.rates.columns import rates_told
from foundrank.data.rates.parts import FOLDS, Parts, Place
from foundrank.data.rates.saved_rates import VALUES
from foundrank.model.kinds import KINDS
from tests.tiny_world import train_files

DOMAINS = ("shop", "news")


def write(folder: Path, rows: dict[str, dict], time: bool, **changes) -> RowEncoder:
    """Two domains in two files of small row groups; the encoder of what was counted."""
    domains = {}
    for name, columns in rows.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        table = pa.table(columns)
        for number, half in enumerate((table.slice(0, len(table) // 2), table.slice(len(table) // 2))):
            pq.write_table(half, folder / name / f"{number}.parquet", row_group_size=61)
        tasks = {"click": {"label": "click"} | changes.get("click", {})} | changes.get("tasks", {})
        domains[name] = {"kind": "recommendation", "events": {"train": f"{name}/*.parquet"}, "tasks": tasks}
        domains[name] |= ({"time": "at"} if time else {}) | changes.get("domain", {})
    item = {"id": "item", "features": {"brand": {"kind": "categorical"}}}
    experiment = {"name": "rated", "entities": {"user": {"id": "user"}, "item": item}, "domains": domains}
    experiment["model"] = {"rates": True}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    return rated(load_experiment(folder, kinds=KINDS))


def rated(experiment) -> RowEncoder:
    files = train_files(experiment)
    statistics = count(experiment, files)
    statistics.rates = count_rates(RowEncoder(experiment, statistics), files)
    return RowEncoder(experiment, statistics)


def random_rows(n: int, seed: int = 0, each: int = 10) -> dict:
    """Labels are noise; an item or a user has about ``each`` rows."""
    random = np.random.default_rng(seed)
    item = random.integers(1, n // each + 2, n)
    return {
        "user": random.integers(1, n // each + 2, n),
        "item": item,
        "brand": item % 5,
        "at": np.sort(random.integers(0, 300, n)).astype(float),
        "click": random.integers(0, 2, n).astype(float),
        "list": np.arange(n) // 4,
    }


def worlds(n: int) -> dict[str, dict]:
    return {name: random_rows(n, seed) for seed, name in enumerate(DOMAINS)}


def column(encoder: RowEncoder, name: str) -> int:
    return encoder.statistics.rate_columns.index(name)


def folds_of_item(encoder: RowEncoder, parts: Parts, name: str) -> np.ndarray:
    """Of all training rows of a domain."""
    found = []
    for number, path in enumerate(train_files(encoder.experiment)[name].files):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            rows = parts.of_rows(encoder.experiment, name, file.read_row_group(group), Place(number, group))
            found.append(rows["item"].added)
    return np.concatenate(found)


def counts_of(encoder: RowEncoder, matrix: np.ndarray, name: str) -> np.ndarray:
    assert encoder.statistics.rates is not None
    mean, deviation = encoder.statistics.rates.moments[name]
    values = matrix[:, column(encoder, name)]
    return np.where(values == rates.NOTHING_KNOWN, 0, np.expm1(values * deviation + mean))


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    order = np.argsort(scores, kind="stable")
    _, at, times = np.unique(scores[order], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(times) - (times - 1) / 2)[at]
    positive = labels[order] > 0
    n = positive.sum()
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(labels) - n)))


@pytest.mark.parametrize("time", [True, False])
def test_labels_that_are_noise_are_not_in_the_rates_of_their_own_rows(tmp_path, time):
    rows = worlds(3000)
    encoder = write(tmp_path, rows, time)
    for name, files in train_files(encoder.experiment).items():
        labels = np.asarray(rows[name]["click"])
        of_training = rate_matrix(encoder, name, files, of_training=True)
        leaking = rate_matrix(encoder, name, files, of_training=False)  # knows of all labels, its own among them
        for each in ("id_user", "id_item", "id_item.here"):
            at = column(encoder, f"{each}.click.rate")
            assert abs(auc(labels, of_training[:, at]) - 0.5) < 0.035, each
            assert auc(labels, leaking[:, at]) > 0.54, each


@pytest.mark.parametrize("time", [True, False])
def test_counts_are_those_of_a_slow_count(tmp_path, time):
    rows = worlds(150)
    for columns in rows.values():
        columns["click"][::7] = np.nan  # without a label
        columns["user"] = pa.array([None if i % 11 == 0 else f"u{u}" for i, u in enumerate(columns["user"])])
    encoder = write(tmp_path, rows, time)
    assert encoder.statistics.rates is not None
    parts = encoder.statistics.rates.parts
    everyone = [
        {"domain": d, **{key: values[i] for key, values in columns.items()}}
        for d, columns in rows.items()
        for i in range(150)
    ]
    part = np.concatenate([folds_of_item(encoder, parts, name) for name in rows])
    if time:
        part = np.searchsorted(parts.bounds, [row["at"] for row in everyone], side="right")
    part = dict(zip(map(id, everyone), part.tolist(), strict=True))
    for name, files in train_files(encoder.experiment).items():
        matrix = rate_matrix(encoder, name, files, of_training=True)
        found = {each: counts_of(encoder, matrix, f"{each}.click.count") for each in ("id_item", "id_item.here")}
        for i, row in enumerate(row for row in everyone if row["domain"] == name):
            alike = [r for r in everyone if r["item"] == row["item"] and not np.isnan(r["click"])]
            known = [r for r in alike if (part[id(r)] < part[id(row)] if time else part[id(r)] != part[id(row)])]
            assert round(float(found["id_item"][i]), 3) == len(known)
            assert round(float(found["id_item.here"][i]), 3) == sum(r["domain"] == name for r in known)


def test_of_no_time_it_is_told_nothing_and_tells_no_one_in_training(tmp_path):
    rows = worlds(200)
    for columns in rows.values():
        columns["at"] = pa.array(columns["at"], mask=np.arange(200) < 100)
    encoder = write(tmp_path, rows, time=True)
    for name, files in train_files(encoder.experiment).items():
        counts = counts_of(encoder, rate_matrix(encoder, name, files, of_training=True), "feature_brand.click.count")
        assert np.abs(counts[:100]).max() < 0.1  # at most four deviations from the mean
        assert counts[100:].max() <= 200 + 1e-3
        assert counts_of(encoder, rate_matrix(encoder, name, files, False), "feature_brand.click.count").max() > 40


def test_columns_that_a_run_to_fine_tune_had_keep_their_moments_beside_a_new_task(tmp_path):
    rows = {"shop": random_rows(300) | {"buy": np.arange(300) % 2.0}}
    encoder = write(tmp_path, rows, time=True, tasks={"buy": {"label": "buy"}})
    assert encoder.statistics.rates is not None
    found = encoder.statistics.rates.moments
    before = {name: (7.0, 2.0) for name in found if ".click." in name}
    assert count_rates(encoder, train_files(encoder.experiment), before).moments == found | before


def test_a_list_and_a_user_stay_in_one_fold(tmp_path):
    rows = worlds(400)
    encoder = write(tmp_path, rows, time=False, domain={"list_column": "list"})
    for name, files in train_files(encoder.experiment).items():
        matrix = rate_matrix(encoder, name, files, of_training=True)
        user = np.asarray(rows[name]["user"])
        both = {}
        for i, of_item in enumerate(matrix[:, column(encoder, "id_item.click.rate")].tolist()):
            both.setdefault((user[i], rows[name]["item"][i]), set()).add(of_item)
        assert {len(values) for values in both.values()} == {1}
        by_list = {}
        for i, of_user in enumerate(matrix[:, column(encoder, "id_user.click.rate")].tolist()):
            by_list.setdefault((rows[name]["list"][i], user[i]), set()).add(of_user)
        assert {len(values) for values in by_list.values()} == {1}


def test_weights_shares_of_negatives_and_conditions_are_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(sums, "_LEAST", 5.0)
    monkeypatch.setattr(sums, "_MOST", 5.0)
    rows = {"shop": random_rows(300)}
    random = np.random.default_rng(9)
    rows["shop"] |= {"w": random.integers(0, 3, 300).astype(float), "buy": random.integers(0, 2, 300).astype(float)}
    encoder = write(
        tmp_path, rows, time=False, click={"negative_rate": 0.25}, domain={"sample_weight": "w"},
        tasks={"buy": {"label": "buy", "given": "click"}},
    )  # fmt: skip
    files = train_files(encoder.experiment)["shop"]
    matrix = rate_matrix(encoder, "shop", files, of_training=False)
    item, w, click, buy = (rows["shop"][each] for each in ("item", "w", "click", "buy"))
    of_item = counts_of(encoder, matrix, "id_item.click.count"), counts_of(encoder, matrix, "id_item.buy.count")
    for i in range(300):
        same = item == item[i]
        np.testing.assert_allclose(of_item[0][i], (w * np.where(click > 0, 1, 4))[same].sum(), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(of_item[1][i], (w * click)[same].sum(), rtol=1e-3, atol=1e-3)
    assert encoder.statistics.rates is not None
    mean, deviation = encoder.statistics.rates.moments["id_item.buy.rate"]
    shown = matrix[:, column(encoder, "id_item.buy.rate")] * deviation + mean
    overall = (w * click * buy).sum() / (w * click).sum()
    same = item == item[0]
    rate = ((w * click * buy)[same].sum() + 5 * overall) / ((w * click)[same].sum() + 5)
    assert shown[0] == pytest.approx(np.log(rate / (1 - rate)) - np.log(overall / (1 - overall)), abs=1e-3)


def test_labels_of_another_kind_are_means_in_deviations(tmp_path, monkeypatch):
    monkeypatch.setattr(sums, "_LEAST", 5.0)
    monkeypatch.setattr(sums, "_MOST", 5.0)
    rows = {"shop": random_rows(300)}
    rows["shop"]["stars"] = np.random.default_rng(2).normal(3, 2, 300)
    encoder = write(tmp_path, rows, time=False, tasks={"stars": {"kind": "regression", "label": "stars"}})
    matrix = rate_matrix(encoder, "shop", train_files(encoder.experiment)["shop"], of_training=False)
    assert encoder.statistics.rates is not None
    mean, deviation = encoder.statistics.rates.moments["id_item.stars.rate"]
    stars, same = rows["shop"]["stars"], rows["shop"]["item"] == rows["shop"]["item"][0]
    rate = (stars[same].sum() + 5 * stars.mean()) / (same.sum() + 5)
    found = matrix[0, column(encoder, "id_item.stars.rate")] * deviation + mean
    assert found == pytest.approx((rate - stars.mean()) / stars.std(), abs=1e-3)


@pytest.mark.parametrize("time", [True, False])
def test_each_row_has_the_same_rates_on_any_number_of_ranks(tmp_path, time):
    rows = worlds(300)
    for columns in rows.values():
        columns["click"] = np.arange(300) % 2.0
    encoder = write(tmp_path, rows, time)
    files = dict(enumerate(train_files(encoder.experiment).values()))
    chunks = epoch_chunks(files, dict.fromkeys(files, 1.0), seed=3, epoch=0, shuffle_rows=200)

    def all_rows(ranks: int, batch: int) -> np.ndarray:
        found = [
            np.concatenate([one.domains[:, None].numpy(), one.dense.numpy()], 1)
            for order in deal(chunks, ranks, batch)
            for one in Reader(encoder, files, batch + 2, of_training=True).batches(order)
        ]
        found = np.concatenate(found)
        return found[np.lexsort(found.T)]

    first = all_rows(1, 64)
    assert len(first) == 600
    assert first[:, 1:].std() > 0.5
    np.testing.assert_array_equal(first, all_rows(2, 17))
    matrix = [rate_matrix(encoder, name, of, True) for name, of in zip(DOMAINS, files.values(), strict=True)]
    wanted = np.concatenate([np.pad(each, ((0, 0), (1, 0)), constant_values=d) for d, each in enumerate(matrix)])
    np.testing.assert_array_equal(first, wanted[np.lexsort(wanted.T)])


def test_blocks_hold_as_many_rows_each_as_equal_times_allow(tmp_path, monkeypatch):
    monkeypatch.setattr(rate_counting, "BLOCKS", 4)
    rows = worlds(400)
    encoder = write(tmp_path, rows, time=True)
    assert encoder.statistics.rates is not None
    bounds = encoder.statistics.rates.parts.bounds
    assert bounds is not None
    assert len(bounds) == 3
    times = np.concatenate([columns["at"] for columns in rows.values()])
    np.testing.assert_allclose(np.bincount(np.searchsorted(bounds, times, side="right")), 200, atol=25)


@pytest.mark.parametrize("time", [True, False])
def test_they_are_kept_with_a_run(tmp_path, time):
    encoder = write(tmp_path / "data", worlds(300), time)
    encoder.statistics.save(tmp_path / "kept")
    loaded = Statistics.load(tmp_path / "kept")
    loaded.check_fits(encoder.experiment, tmp_path / "kept")
    again = RowEncoder(encoder.experiment, loaded)
    for name, files in train_files(encoder.experiment).items():
        for of_training in (True, False):
            matrix = rate_matrix(encoder, name, files, of_training)
            np.testing.assert_array_equal(matrix, rate_matrix(again, name, files, of_training))
    path = tmp_path / "kept" / VALUES
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match=f"{VALUES}: is damaged"):
        Statistics.load(tmp_path / "kept")


def test_a_run_from_before_there_were_rates_goes_on_without(tmp_path):
    encoder = write(tmp_path, worlds(60), time=True)
    old = count(encoder.experiment, train_files(encoder.experiment))
    old.rate_columns = ()
    old.save(tmp_path / "kept")
    loaded = Statistics.load(tmp_path / "kept")
    loaded.check_fits(encoder.experiment, tmp_path / "kept")
    assert loaded.layout(encoder.experiment).dense == ()
    assert encoder.layout.dense
    assert RowEncoder(encoder.experiment, loaded).no_rows().dense.shape == (0, 0)


def test_folds_are_of_about_equal_size(tmp_path, monkeypatch):
    monkeypatch.setattr(rates, "FARTHEST", 1e9)  # counts of five categories are alike: all is far from four fifths
    rows = worlds(2000)
    for columns in rows.values():
        columns["user"] = pa.nulls(2000, pa.int64())  # by row, then
    encoder = write(tmp_path, rows, time=False)
    for name, files in train_files(encoder.experiment).items():
        known = counts_of(encoder, rate_matrix(encoder, name, files, True), "feature_brand.click.count")
        whole = counts_of(encoder, rate_matrix(encoder, name, files, False), "feature_brand.click.count")
        np.testing.assert_allclose(known / whole, 1 - 1 / FOLDS, atol=0.05)


def test_it_is_told_of_which_labels_a_row_knows(tmp_path):
    experiment = write(tmp_path, worlds(60), time=True).experiment
    assert rates_told(experiment) == "rates of id_user, id_item, feature_brand: a row of training knows of earlier ones"
    experiment = write(tmp_path, worlds(60), time=False).experiment
    assert rates_told(experiment).endswith("of other folds; domains.shop.time would have it know of earlier ones alone")


def test_a_list_that_is_all_of_a_user_leaves_something_to_know_of_him(tmp_path):
    rows = worlds(400)
    encoder = write(tmp_path, rows, time=False, domain={"list_column": "user"})
    for name, files in train_files(encoder.experiment).items():
        counts = counts_of(encoder, rate_matrix(encoder, name, files, of_training=True), "id_user.here.click.count")
        whole = counts_of(encoder, rate_matrix(encoder, name, files, of_training=False), "id_user.here.click.count")
        assert 0.6 < counts.sum() / whole.sum() < 0.9
