"""A kind of feature of one's own is a class and an entry in a dict: checked, counted, encoded, trained and scored by nothing else."""

from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from foundrank.data.arrow.column_need import BadValues, ColumnNeed
from foundrank.data.arrow.column_types import NUMBER
from foundrank.data.arrow.values import bad_numbers, numbers
from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.events.check_events import check_events
from foundrank.data.features import FEATURES
from foundrank.data.features.counts import Counts
from foundrank.data.features.feature import Counted, Feature, FeatureColumns, Inputs
from foundrank.data.settings_base import Positive
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.score.scoring_input import ScoringJob
from foundrank.model.kinds import KINDS
from tests.tiny_world import encoder_of, experiment_dict, random_events, write_world

from .harness import run_ranks
from .rank_work import run_scoring, train_run

HOURS, MONTHS = 4, 12


class Cyclic(Feature):
    """A number that comes round again, as a point on the circle: two dense columns."""

    kind: Literal["cyclic"] = "cyclic"
    period: Positive

    def needs(self, name: str, field: str) -> list[ColumnNeed]:
        bad = BadValues(partial(bad_numbers, above=-1), "no hour")
        return [ColumnNeed(self.column_name(name), NUMBER, field, bad=bad)]

    def inputs(self, name: str) -> Inputs:
        return Inputs(dense=(f"{name}.sin", f"{name}.cos"))

    def count(self, name, table, where: str, counts: Counts, weights) -> None:
        numbers(*self.column_of(name, table, where), -1)  # nothing is counted, but a bad one is found before training

    def encode(self, name, table, where: str, counted: Counted) -> FeatureColumns:
        angles = numbers(*self.column_of(name, table, where), -1) * (2 * np.pi / self.period)
        columns = {f"{name}.sin": np.sin(angles), f"{name}.cos": np.cos(angles)}
        return FeatureColumns(dense={key: np.nan_to_num(of.astype(np.float32)) for key, of in columns.items()})


def write(folder: Path) -> None:
    """Clicks that the hour alone decides; every item has a month."""
    rows = random_events(0, {"find": 200, "home": 400, "new": 100})
    for row in (row for of_domain in rows.values() for row in of_domain):
        row["click"] = None if row["hour"] is None else float(row["hour"] < HOURS // 2)
    write_world(folder, rows)
    items = pq.read_table(folder / "items.parquet")
    months = pa.array([None, *range(1, items.num_rows)], pa.int8())
    pq.write_table(items.append_column("month", months), folder / "items.parquet")
    experiment: dict[str, Any] = experiment_dict()
    experiment["context"]["hour"] = {"kind": "cyclic", "period": HOURS}
    experiment["entities"]["item"]["features"]["month"] = {"kind": "cyclic", "period": MONTHS}
    experiment["model"] = {"aspects": ["id", "sparse"]}
    experiment["training"] |= {"epochs": 6, "batch_size": 32, "keep_best": False, "learning_rate": 0.01}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))


def own_kind(runtime: Runtime, folder: Path) -> None:
    """Trains and scores in a process that has the entry."""
    FEATURES["cyclic"] = Cyclic
    train_run(runtime, load_experiment(folder, kinds=KINDS), folder / "run")
    run_scoring(
        ScoringJob(folder / "run", str(folder / "home/*.parquet"), folder / "scores", "home", ["hour"]), runtime
    )


@pytest.fixture
def cyclic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FEATURES, "cyclic", Cyclic)


def test_it_is_encoded_from_events_and_from_a_catalog(tmp_path, cyclic):
    write(tmp_path)
    experiment = load_experiment(tmp_path, kinds=KINDS)
    encoder = encoder_of(experiment)
    events = pq.read_table(tmp_path / "home/part-000.parquet")
    rows = encoder.encode("home", events, "here", with_labels=False)
    catalog = {row["item_id"]: row["month"] for row in pq.read_table(tmp_path / "items.parquet").to_pylist()}
    wanted = {
        "hour": (HOURS, events["hour"].to_pylist()),
        "month": (MONTHS, [catalog.get(item) for item in events["item"].to_pylist()]),
    }
    for name, (period, values) in wanted.items():
        for part, of in (("sin", np.sin), ("cos", np.cos)):
            expected = [0 if value is None else of(2 * np.pi * value / period) for value in values]
            got = rows.dense[:, encoder.layout.dense.index(f"{name}.{part}")]
            np.testing.assert_allclose(got, expected, atol=1e-6)
    past = load_experiment(tmp_path, ["model.history={encoder: sasrec, features: [month]}"], kinds=KINDS)
    layout = encoder.statistics.layout(past)
    assert [layout.dense[column] for column in layout.past_dense] == ["month.sin", "month.cos"]


def test_it_is_trained_and_scored(tmp_path, cyclic):
    write(tmp_path)
    run_ranks(own_kind, 1, tmp_path)
    scores = pq.read_table(tmp_path / "scores").filter(pc.field("hour").is_valid())
    early = scores["hour"].to_numpy() < HOURS // 2
    found = scores["score_click"].to_numpy()
    assert found[early].min() > found[~early].max()


@pytest.mark.parametrize(
    ("feature", "told"),
    [
        ({"kind": "cyclic"}, "context.hour.period: 'period' is required and missing"),
        (
            {"kind": "cyclic", "period": 4, "buckets": 9},
            "context.hour.buckets: has no effect: kind: cyclic has no such",
        ),
        ({"kind": "cyclical", "period": 4}, "Did you mean 'cyclic'"),
    ],
)
def test_its_settings_are_checked(tmp_path, cyclic, feature, told):
    experiment = experiment_dict()
    experiment["context"]["hour"] = feature
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    with pytest.raises(UserError, match=told):
        load_experiment(tmp_path, kinds=KINDS)


def test_its_columns_and_values_are_checked(tmp_path, cyclic):
    write(tmp_path)
    experiment = load_experiment(tmp_path, ["context.hour.column=slot"], kinds=KINDS)
    with pytest.raises(UserError, match=r"column 'slot': is .*; context.hour takes numbers"):
        check_events(experiment, ["train"])
    experiment = load_experiment(tmp_path, ["context.hour.column=bad", "only=[home]"], kinds=KINDS)
    path = tmp_path / "home/part-000.parquet"
    table = pq.read_table(path)
    pq.write_table(table.append_column("bad", pa.array([-2] * table.num_rows)), path)
    with pytest.raises(UserError, match="row group 0: column 'bad', row 0: the value is -2"):
        encoder_of(experiment)
