"""The simulated platform: what it promises about labels, histories, time and cold items, on a small one."""

from collections import defaultdict
from glob import glob

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.simulation.platform import simulate_platform
from foundrank.model.kinds import KINDS

ROWS = 20_000
SPLITS = ("train", "validation", "test")


def read(experiment, domain, split) -> pa.Table:
    return pq.read_table(sorted(glob(getattr(experiment.domains[domain].events, split))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return simulate_platform(tmp_path_factory.mktemp("world") / "a", rows=ROWS, seed=7).parent


@pytest.fixture(scope="module")
def experiment(folder):
    return load_experiment(folder / "experiment.yaml", kinds=KINDS)


@pytest.fixture(scope="module")
def events(experiment):
    """(domain, split) -> table."""
    return {(d, s): read(experiment, d, s) for d in experiment.domains for s in SPLITS}


def files(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def test_every_declared_column_is_on_disk(experiment, events):
    assert len(experiment.domains) == 7
    for (name, _), table in events.items():
        domain = experiment.domains[name]
        wanted = {"user", "item", "history", "request", *experiment.context, *domain.features}
        wanted |= {c for task in domain.tasks.values() for c in (task.label.column, task.probability)}
        if domain.kind == "search":
            wanted.add("query")
        assert wanted <= set(table.column_names)
        assert ("query" in table.column_names) == (domain.kind == "search")
    for entity in experiment.entities.present().values():
        catalog = pq.read_table(entity.catalog.path)
        assert {
            entity.catalog.key,
            *(column for content in entity.every_content().values() for column in content.columns),
            *entity.features,
        } <= set(catalog.column_names)
        assert len(catalog[entity.catalog.key].unique()) == catalog.num_rows


def test_events_refer_to_the_catalogs(experiment, events):
    for name, entity in experiment.entities.present().items():
        known = set(pq.read_table(entity.catalog.path)[entity.catalog.key].to_pylist())
        for table in events.values():
            if name in table.column_names:
                assert set(table[name].unique().to_pylist()) <= known


def test_rows_and_sizes(experiment, events):
    sizes = {d: sum(events[d, s].num_rows for s in SPLITS) for d in experiment.domains}
    assert sum(sizes.values()) == ROWS
    assert max(sizes.values()) > 40 * min(sizes.values())
    assert [d for d, c in experiment.domains.items() if c.cold] == [min(sizes, key=lambda d: sizes[d])]


def test_lists_show_distinct_items_at_rising_positions(events):
    for table in events.values():
        request, position = table["request"].to_numpy(), table["position"].to_numpy()
        pairs = set(zip(request.tolist(), table["item"].to_pylist(), strict=True))
        assert len(pairs) == table.num_rows
        starts = np.flatnonzero(np.diff(request, prepend=-1))
        assert (position[starts] == 1).all()
        assert (np.diff(position)[np.diff(request) == 0] == 1).all()
        assert np.diff(starts).max() <= 10


def test_labels_follow_their_probabilities(events):
    for label, probability in (("click", "p_click"), ("conversion", "p_conversion")):
        table = pa.concat_tables([t.select([label, probability]) for t in events.values()]).drop_null()
        y, p = table[label].to_numpy(), table[probability].to_numpy()
        assert ((p > 0) & (p < 1)).all()
        for part in np.array_split(np.argsort(p), 10):
            error = 4 * np.sqrt((p[part] * (1 - p[part])).sum()) / len(part)
            assert abs(y[part].mean() - p[part].mean()) < error


def test_a_conversion_needs_a_click(events):
    for table in events.values():
        clicked = table["click"].to_numpy() == 1
        for column in ("conversion", "p_conversion"):
            assert (table[column].is_valid().to_numpy() == clicked).all()


def test_history_is_exactly_what_the_user_clicked_before(events):
    """Rebuilt the slow way, from all domains' events."""
    rows = [(domain, row) for (domain, _), table in events.items() for row in table.to_pylist()]
    clicks = defaultdict(list)
    for domain, row in rows:
        if row["click"]:
            clicks[row["user"]].append((row["time"], row["item"], domain))
    for mine in clicks.values():
        mine.sort(key=lambda click: click[0])  # stable: rows are in list order
    longest = 0
    for _, row in rows:
        before = [(item, domain) for time, item, domain in clicks[row["user"]] if time < row["time"]]
        assert list(zip(row["history"], row["history_domains"], strict=True)) == before[-30:]
        longest = max(longest, len(row["history"]))
    assert longest == 30


def test_splits_are_ordered_in_time_and_the_cold_domain_opens_late(events, experiment):
    for domain in experiment.domains:
        spans = [events[domain, s]["time"].to_numpy() for s in SPLITS]
        assert spans[0].max() < spans[1].min()
        assert spans[1].max() < spans[2].min()
        assert all((np.diff(span) >= np.timedelta64(0)).all() for span in spans)
    opening = {d: events[d, "train"]["time"].to_numpy().min() for d in experiment.domains}
    first = min(opening.values())
    assert opening["events_feed"] > first + np.timedelta64(60, "D")
    assert all(t < first + np.timedelta64(5, "D") for d, t in opening.items() if d != "events_feed")


def test_test_has_items_and_users_that_training_lacks(events, experiment):
    def column(split, name):
        return np.concatenate([np.array(events[d, split][name].to_pylist()) for d in experiment.domains])

    item, user = (~np.isin(column("test", n), column("train", n)) for n in ("item", "user"))
    assert 0.08 < item.mean() < 0.25
    assert 0.01 < user.mean() < 0.15


def test_domains_share_users_and_some_items(events):
    def of(domain, name):
        return set(events[domain, "train"][name].to_pylist())

    assert len(of("shop_search", "user") & of("video_feed", "user")) > 30
    assert len(of("shop_search", "item") & of("shop_feed", "item")) > 100
    assert of("shop_search", "item") != of("shop_feed", "item")
    assert not of("shop_search", "item") & of("coupons_feed", "item")


def test_the_seed_decides_every_byte(folder, tmp_path):
    again = simulate_platform(tmp_path / "again", rows=ROWS, seed=7).parent
    assert files(again) == files(folder)
    assert all((again / f).read_bytes() == (folder / f).read_bytes() for f in files(folder))
    other = simulate_platform(tmp_path / "other", rows=ROWS, seed=8).parent
    part = "events/shop_feed/train/part-00000.parquet"
    assert not pq.read_table(other / part).equals(pq.read_table(folder / part))


def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        simulate_platform(tmp_path, rows=ROWS)
    assert files(tmp_path)[0].name == "note.txt"
    assert len(files(tmp_path)) == 1


def test_a_failed_write_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(pq, "write_table", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        simulate_platform(tmp_path / "world", rows=ROWS)
    assert list(tmp_path.iterdir()) == []


def test_too_few_rows_are_refused(tmp_path):
    with pytest.raises(UserError, match="too few"):
        simulate_platform(tmp_path / "world", rows=100)
    assert not (tmp_path / "world").exists()
