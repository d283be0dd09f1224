"""An evaluation does not depend on the number of ranks, however few rows a domain has."""

import glob
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.experiment import Experiment
from foundrank.data.events.check_events import check_events
from foundrank.dist.evaluate.evaluate import evaluate
from foundrank.dist.evaluate.popularity import popularity_counts
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.sharding.shard import shard

from .harness import run_ranks
from .rank_work import make_encoder

TINY = {"events_feed": 1, "coupons_feed": 2, "services_search": 3}


def evaluate_test(runtime: Runtime, experiment: Experiment) -> tuple[list[dict[str, Any]], dict[str, Any], int]:
    encoder = make_encoder(experiment)
    sharded = shard(encoder.layout, experiment, runtime)
    sharded.train()
    events = check_events(experiment)
    popularity = popularity_counts(experiment, encoder, events, runtime)
    result = evaluate(sharded, encoder, {n: splits["test"] for n, splits in events.items()}, runtime, popularity)
    assert sharded.training
    return result


@pytest.fixture
def uneven(small, tmp_path):
    """Domains with one, two and three test rows beside larger ones; one split over several row groups."""
    changes = ["training.batch_size=64"]
    for domain, rows in (*TINY.items(), ("shop_feed", None)):
        pattern = small().domains[domain].events.test
        table = pq.read_table(glob.glob(pattern)[0])
        path = tmp_path / f"{domain}.parquet"
        pq.write_table(table.slice(0, rows), path, row_group_size=37)
        changes.append(f"domains.{domain}.events.test={path}")
    return small(*changes)


def test_rows_are_the_same_on_one_and_two_ranks(uneven):
    ((alone, gates, skipped),) = run_ranks(evaluate_test, 1, uneven)
    (rows, two_gates, _), rest = run_ranks(evaluate_test, 2, uneven)
    assert rest == ([], {}, 0)
    assert skipped == 0
    assert len(rows) == len(alone)
    for row, wanted in zip(rows, alone, strict=True):
        assert row.keys() == wanted.keys()
        for key, value in wanted.items():
            if isinstance(value, float):
                assert row[key] == pytest.approx(value, abs=1e-6), (wanted, key)
            else:
                assert row[key] == value, (wanted, key)
    for domain, owners in gates.items():
        for owner, weights in owners.items():
            assert two_gates[domain][owner] == pytest.approx(weights, abs=1e-6)


def test_every_row_is_counted_once(uneven):
    (rows, *_), _ = run_ranks(evaluate_test, 2, uneven)
    counted = {row["domain"]: row["rows"] for row in rows if row["slice"] == "all" and row["task"] == "click"}
    wanted = {name: splits["test"].rows for name, splits in check_events(uneven).items()}
    assert counted == wanted
    assert {name: wanted[name] for name in TINY} == TINY
    assert np.min(list(wanted.values())) < 2
