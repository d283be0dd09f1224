"""Domains without users, and the time of an event: what their events need, and what becomes of it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.schema.column_needs import needed_columns
from foundrank.data.schema.layout import id_key
from foundrank.model.kinds import KINDS
from foundrank.model.tasks.group_metrics import apart
from tests.tiny_world import encoder_of, random_events, write_world

SASREC = "model.history={encoder: sasrec, layers: 1, dropout: 0}"
TIMED = "model.history={encoder: hstu, layers: 1, dropout: 0, time_bias: true}"


@pytest.fixture
def world(tmp_path):
    """The tiny world, whose domain ``new`` names no user; its file has neither that column nor a history."""
    write_world(tmp_path, random_events(3, {"find": 30, "home": 30, "new": 20}), seed=3, group=50)
    for path in tmp_path.glob("new/*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["user", "history", "clicks"]), path)

    def load(*changes: str):
        return load_experiment(tmp_path, ["domains.new.users=false", *changes], kinds=KINDS)

    return load


@pytest.mark.parametrize(
    "changes", [(), (SASREC, "model.next_item={negatives: 4, positions: all}")], ids=["pooled", "past"]
)
def test_rows_of_a_domain_without_users_have_neither_user_nor_past(world, changes):
    experiment = world(*changes)
    assert not {"user", "history", "clicks"} & {need.name for need in needed_columns(experiment, "new")}
    assert {"user", "history", "clicks"} <= {need.name for need in needed_columns(experiment, "home")}
    check_events(experiment, ["train"])
    encoder = encoder_of(experiment)
    table = pq.read_table(experiment.domains["new"].events.train.replace("*", "part-000"))
    rows = encoder.encode("new", table, "here", with_host=True)
    at = encoder.layout.entities.index("user")
    assert (rows.singles[:, encoder.layout.keys.index(id_key("user"))] == -1).all()
    assert (rows.id_counts[:, at] == -1).all()
    assert all(len(values) == 0 for values, _ in [rows.lists["history"], *rows.history.values()])
    assert not rows.host["user_known"].any()
    assert not rows.chosen.any()
    assert len(np.unique(apart(rows.host["user"], rows.host["user_known"]))) == len(rows)  # no group, and no GAUC
    both = pa.concat_tables(
        [
            pq.read_table(p)
            for p in sorted((experiment.domains["home"].events.train).replace("*", f"part-00{n}") for n in (0,))
        ]
    )
    home = encoder.encode("home", both, "here", with_host=True)
    assert home.chosen.any()
    batch = encoder.assemble([rows, home], len(rows) + len(home))
    assert batch.rows == len(rows) + len(home)


def test_what_needs_users_is_refused_without(world):
    with pytest.raises(
        UserError, match=r"domains.new.features.fan: belongs to the user, but the domain has users: false"
    ):
        world("domains.new.features.fan={kind: dense, entity: user}")
    with pytest.raises(UserError, match=r"model.next_item: finds what users take next, and no domain has any"):
        world("only=[new]", SASREC, "model.next_item={}", "domains.find.users=false", "domains.home.users=false")


def test_past_items_are_as_old_as_the_time_of_the_event_says(world, tmp_path):
    for path in tmp_path.glob("home/*.parquet"):
        table = pq.read_table(path)
        times = [None if row is None else [100] * len(row) for row in table["history"].to_pylist()]
        table = table.append_column("when", pa.array(times, pa.list_(pa.int64())))
        pq.write_table(table.append_column("at", pa.array([160] * table.num_rows)), path)
    only = ("only=[home]", "entities.user.history.times=when", TIMED)
    for changes, age in (((), 0), (("domains.home.time=at",), 60)):
        experiment = world(*only, *changes)
        asked = {need.name for need in needed_columns(experiment, "home", with_labels=False)}
        assert ("at" in asked) == bool(changes)
        encoder = encoder_of(experiment)
        rows = encoder.encode("home", pq.read_table(tmp_path / "home/part-000.parquet"), "here")
        ages, _ = rows.history["ages"]
        assert len(ages)
        assert (ages == age).all()


def test_a_time_is_checked_before_work_starts(world, tmp_path):
    paths = sorted(tmp_path.glob("home/*.parquet"))
    for path in paths:
        table = pq.read_table(path)
        at = np.arange(table.num_rows, dtype=float)
        at[3] = np.nan
        pq.write_table(table.append_column("at", pa.array(at)).append_column("name", pa.array(["x"] * len(at))), path)
    with pytest.raises(UserError, match=r"column 'at', row 3 of row group 0: the time is nan. Write null where"):
        check_events(world("domains.home.time=at"), ["train"])
    with pytest.raises(UserError, match=r"column 'name': is string; domains.home.time takes timestamps, dates or"):
        check_events(world("domains.home.time=name"), ["train"])
    # Scoring does without, where nobody looks at times.
    assert "at" not in {need.name for need in needed_columns(world("domains.home.time=at"), "home", with_labels=False)}
