"""What is counted does not depend on how many ranks count, nor on which of them has which rows."""

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foundrank.data.batch.rate_counting import count_rates, earlier_rates
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment, plain
from foundrank.data.counting import pieces, shares
from foundrank.data.counting.count_tables import find_tables, write_tables
from foundrank.data.counting.counting_pass import count, count_events, statistics_of
from foundrank.data.counting.statistics import Statistics
from foundrank.data.errors import UserError
from foundrank.data.rates import sums
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.train import prepare
from foundrank.model.kinds import KINDS
from tests.tiny_world import random_events, train_files, write_world

from .harness import run_ranks


def saved(runtime: Runtime, experiment: Experiment, folder: Path, rows: int) -> tuple[dict[str, bytes], int]:
    """The bytes that a rank's statistics are kept as, and the rows that it has counted itself."""
    shares.SHARE_ROWS = rows
    counted: list[int] = []
    statistics = count(experiment, train_files(experiment), counted.append, runtime)
    statistics.save(folder / f"{runtime.world_size}-{runtime.rank}")
    files = sorted((folder / f"{runtime.world_size}-{runtime.rank}").iterdir())
    return {path.name: path.read_bytes() for path in files}, sum(counted)


def saved_of_given(runtime: Runtime, experiment: Experiment, folder: Path, tables: Path) -> dict[str, bytes]:
    """As `saved`, of what was counted elsewhere."""
    shares.SHARE_ROWS = 8
    train = train_files(experiment)
    events = count_events(experiment, train, ranks=runtime, given=find_tables(experiment, train, str(tables)))
    statistics_of(experiment, train, events).save(own := folder / str(runtime.rank))
    return {path.name: path.read_bytes() for path in sorted(own.iterdir())}


class KilledError(Exception):
    """In the middle of the work."""


def interrupted(runtime: Runtime, experiment: Experiment, folder: Path, most: int) -> list[str]:
    """Counts until some rows have been, a piece for each share; the names of the pieces."""
    shares.SHARE_ROWS, pieces.EVERY = 8, 0.0
    counted: list[int] = []

    def kill(rows: int) -> None:
        counted.append(rows)
        if sum(counted) >= most:
            raise KilledError

    with suppress(KilledError):
        count(experiment, train_files(experiment), kill, runtime, folder)
    return sorted(path.name for path in folder.iterdir())


def resumed(runtime: Runtime, experiment: Experiment, folder: Path, kept: Path) -> tuple[dict[str, bytes], int]:
    """As `saved`, with pieces."""
    shares.SHARE_ROWS, pieces.EVERY = 8, 0.0
    counted: list[int] = []
    statistics = count(experiment, train_files(experiment), counted.append, runtime, kept)
    statistics.save(own := folder / str(runtime.rank))
    return {path.name: path.read_bytes() for path in sorted(own.iterdir())}, sum(counted[1:])


def rates_of(runtime: Runtime, experiment: Experiment, rows: int, pending: int) -> list[bytes]:
    shares.SHARE_ROWS, sums._PENDING = rows, pending
    train = train_files(experiment)
    encoder = RowEncoder(experiment, count(experiment, train, ranks=runtime))
    rates = count_rates(encoder, train, ranks=runtime)
    found = [array.tobytes() for table in rates.tables.values() for array in (table.cells, table.values)]
    return [*found, b"" if rates.parts.bounds is None else rates.parts.bounds.tobytes(), repr(rates.moments).encode()]


def increments_of(runtime: Runtime, experiments: list[Experiment], folder: Path, pending: int) -> dict[str, bytes]:
    """The bytes that the rates of the last of some increments are kept as."""
    shares.SHARE_ROWS, sums._PENDING = 8, pending
    before, own = None, folder / f"{runtime.world_size}-{runtime.rank}-{pending}"
    for number, experiment in enumerate(experiments):
        train = train_files(experiment)
        statistics = count(experiment, train, ranks=runtime)
        statistics = statistics if before is None else before.extended(statistics)
        encoder = RowEncoder(experiment, statistics)
        earlier, moments = None, {}
        if before is not None:
            assert before.rates is not None
            earlier, moments = earlier_rates(before, encoder), before.rates.moments
            assert earlier is not None
        rates = count_rates(encoder, train, moments, ranks=runtime, earlier=earlier)
        replace(statistics, rates=rates).save(own / str(number))
        before = Statistics.load(own / str(number))
    assert before is not None
    last = own / str(len(experiments) - 1)
    return {path.name: path.read_bytes() for path in last.iterdir() if path.suffix in (".npy", ".json")}


def begun(runtime: Runtime, experiment: Experiment, run: Path, counts: Path, alone: int) -> bool:
    prepare.COUNTED_ALONE = alone
    job = runtime.on_main(lambda: prepare.prepare(experiment, run, counts=counts))
    there = (run / "experiment.yaml").is_file()
    prepare.begin_run(job, runtime)
    return there


def told(runtime: Runtime, experiment: Experiment) -> str:
    shares.SHARE_ROWS = 4
    try:
        count(experiment, train_files(experiment), ranks=runtime)
    except UserError as error:
        return str(error)
    return "nothing"


def exchanged(runtime: Runtime) -> list[list[int]]:
    sent = [np.arange(to, dtype=np.uint64) + np.uint64(10 * runtime.rank) for to in range(runtime.world_size)]
    return [array.tolist() for array in runtime.exchange(sent)]


@pytest.fixture
def world(tmp_path):
    """With lists, and with labels that are no whole numbers."""
    events = random_events(5, {"find": 120, "home": 90, "new": 45})
    for row in events["find"]:
        row["row"] //= 3
    raw = plain(write_world(tmp_path, events, files=3, group=4))
    for name, ways in {"hour_of": {"boundaries": [1, 2]}, "hour_like": {"buckets": 3}}.items():
        raw["context"][name] = {"kind": "bucketed", "column": "hour", **ways}
    raw["domains"]["find"]["tasks"]["buy"] = {"kind": "regression", "label": "rank"}
    raw["domains"]["find"]["tasks"]["click"] = {"label": "click", "list_loss": "softmax"}
    return load_experiment(raw, kinds=KINDS)


def test_each_rank_gets_what_was_meant_for_it():
    assert run_ranks(exchanged, 1) == [[[]]]
    assert run_ranks(exchanged, 3) == [[[], [], []], [[0], [10], [20]], [[0, 1], [10, 11], [20, 21]]]


@pytest.mark.parametrize("rows", [1, 16, 1000])
def test_any_number_of_ranks_counts_the_same_to_the_bit(tmp_path, world, rows):
    """Also where there are fewer shares than ranks, lists lie across shares, and sums of numbers depend on their order."""
    ((alone, counted),) = run_ranks(saved, 1, world, tmp_path, rows)
    assert counted == 255
    for ranks in (2, 3):
        several = run_ranks(saved, ranks, world, tmp_path, rows)
        assert [files for files, _ in several] == [alone] * ranks
        assert sum(counted for _, counted in several) == 255
        assert rows == 1000 or min(counted for _, counted in several) > 255 // ranks // 2


def test_any_number_of_ranks_takes_what_was_counted_elsewhere(tmp_path, world, monkeypatch):
    monkeypatch.setattr(shares, "SHARE_ROWS", 8)  # by which sums of numbers are made
    ((wanted, _),) = run_ranks(saved, 1, world, tmp_path, 8)
    events = count_events(world, train_files(world))
    rows = {name: files.rows for name, files in train_files(world).items()}
    write_tables(tmp_path / "tables", events.ids, events.dense, rows)
    assert run_ranks(saved_of_given, 2, world, tmp_path / "given", tmp_path / "tables") == [wanted] * 2


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_counting_that_was_interrupted_goes_on_with_any_number_of_ranks(tmp_path, world, ranks):
    """One of its pieces is damaged, and counted again."""
    ((wanted, _),) = run_ranks(saved, 1, world, tmp_path, 8)
    kept = tmp_path / "kept"
    left = run_ranks(interrupted, 2, world, kept, 60)
    assert len(left[0]) > 6
    (kept / left[0][2]).write_bytes((kept / left[0][2]).read_bytes()[:-40])
    found = run_ranks(resumed, ranks, world, tmp_path / "resumed", kept)
    assert [files for files, _ in found] == [wanted] * ranks
    assert 100 < sum(counted for _, counted in found) < 170


@pytest.mark.parametrize("time", [True, False])
def test_any_number_of_ranks_adds_up_the_same_rates_to_the_bit(tmp_path, time):
    """Of labels whose sums depend on their order; whenever sums are merged."""
    events = random_events(5, {"find": 120, "home": 90, "new": 45})
    raw = plain(write_world(tmp_path, events, files=3, group=4))
    for name, ways in {"hour_of": {"boundaries": [1, 2]}, "hour_like": {"buckets": 3}}.items():
        raw["context"][name] = {"kind": "bucketed", "column": "hour", **ways}
    raw["domains"]["find"]["tasks"]["buy"] = {"kind": "regression", "label": "rank"}
    raw["model"]["rates"] = True
    for domain in raw["domains"].values() if time else ():
        domain["time"] = "row"
    experiment = load_experiment(raw, kinds=KINDS)
    (alone,) = run_ranks(rates_of, 1, experiment, 8, 1_000_000)
    assert run_ranks(rates_of, 1, experiment, 8, 5) == [alone]
    for ranks in (2, 3):
        assert run_ranks(rates_of, ranks, experiment, 8, 20) == [alone] * ranks


@pytest.mark.parametrize("time", [True, False])
def test_any_number_of_ranks_goes_on_with_rates_to_the_bit(tmp_path, time):
    """From an increment of one process to the next, whose rows of ids change hands."""
    experiments = []
    for day in range(3):
        events = random_events(5 + day, {"find": 90, "home": 60, "new": 45})
        raw = plain(write_world(tmp_path / str(day), events, files=3, group=4))
        raw["domains"]["find"]["tasks"]["buy"] = {"kind": "regression", "label": "rank"}
        raw["model"]["rates"] = True
        raw["entities"]["item"] |= {"encoding": "managed", "rows": 4, "window": 1, "min_count": 1}
        for domain in raw["domains"].values() if time else ():
            domain["time"] = "row"
        experiments.append(load_experiment(raw, kinds=KINDS))
    (alone,) = run_ranks(increments_of, 1, experiments, tmp_path, 1_000_000)
    assert {"rates_cells.npy", "rates_values.npy", "rates_ids.npy", "rates_sums.npy"} < alone.keys()
    assert run_ranks(increments_of, 1, experiments, tmp_path, 5) == [alone]
    for ranks in (2, 3):
        assert run_ranks(increments_of, ranks, experiments, tmp_path, 20) == [alone] * ranks


def test_a_run_that_all_ranks_have_counted_is_the_one_that_a_process_counts_alone(tmp_path):
    """And what is kept for other trainings."""
    events = random_events(5, {"find": 120, "home": 90, "new": 45})
    raw = plain(write_world(tmp_path, events, files=3, group=4))
    raw["model"]["rates"] = True
    experiment = load_experiment(raw, kinds=KINDS)
    alone, ranks = tmp_path / "alone", tmp_path / "ranks"
    assert run_ranks(begun, 2, experiment, alone / "run", alone / "counts", 255) == [True, True]
    assert run_ranks(begun, 2, experiment, ranks / "run", ranks / "counts", 254) == [False, False]
    files = [path.relative_to(alone) for path in sorted(alone.rglob("*")) if path.is_file()]
    assert files == [path.relative_to(ranks) for path in sorted(ranks.rglob("*")) if path.is_file()]
    assert sum("counts" in path.parts for path in files) > 5
    for path in files:
        if path.name not in ("events.json", "run.json", "counted_of.json"):  # which hold times of files, and the folder
            assert (alone / path).read_bytes() == (ranks / path).read_bytes(), path


def test_bad_rows_are_those_of_all_ranks(tmp_path):
    """Each rank has fewer than are allowed."""
    events = random_events(1, {"find": 40, "home": 40, "new": 40})
    for row in (0, 8, 20, 28):
        events["new"][row]["clicks"] = -5
    raw = plain(write_world(tmp_path, events, group=4))
    raw["bad_data"] = {"policy": "skip", "max_share": 0.1}
    allowed = load_experiment(raw, kinds=KINDS)
    (alone, _), *_ = run_ranks(saved, 1, allowed, tmp_path, 4)
    (two, _), *_ = run_ranks(saved, 2, allowed, tmp_path, 4)
    assert two == alone
    assert b'"skipped": {\n  "new": 4' in two["statistics.json"]
    raw["bad_data"] = {"policy": "skip", "max_share": 0.099}
    first, second = run_ranks(told, 2, load_experiment(raw, kinds=KINDS))
    assert first == second == run_ranks(told, 1, load_experiment(raw, kinds=KINDS))[0]
    assert "4 of 40 rows are bad" in first
