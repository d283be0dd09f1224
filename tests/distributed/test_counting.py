"""What is counted does not depend on how many ranks count, nor on which of them has which rows."""

from pathlib import Path

import numpy as np
import pytest

from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment, plain
from foundrank.data.counting import shares
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.dist.ranks.runtime import Runtime
from foundrank.model.kinds import KINDS
from tests.tiny_world import random_events, train_files, write_world

from .harness import run_ranks


def saved(runtime: Runtime, experiment: Experiment, folder: Path, rows: int) -> tuple[dict[str, bytes], int]:
    """The bytes that a rank's statistics are kept as, and the rows that it has counted itself."""
    shares._ROWS = rows
    counted: list[int] = []
    statistics = count(experiment, train_files(experiment), counted.append, runtime)
    statistics.save(folder / f"{runtime.world_size}-{runtime.rank}")
    files = sorted((folder / f"{runtime.world_size}-{runtime.rank}").iterdir())
    return {path.name: path.read_bytes() for path in files}, sum(counted)


def told(runtime: Runtime, experiment: Experiment) -> str:
    shares._ROWS = 4
    try:
        count(experiment, train_files(experiment), ranks=runtime)
    except UserError as error:
        return str(error)
    return "nothing"


def exchanged(runtime: Runtime) -> list[list[int]]:
    sent = [np.arange(to, dtype=np.uint64) + np.uint64(10 * runtime.rank) for to in range(runtime.world_size)]
    return [array.tolist() for array in runtime.exchange(sent)]


def test_each_rank_gets_what_was_meant_for_it():
    assert run_ranks(exchanged, 1) == [[[]]]
    assert run_ranks(exchanged, 3) == [[[], [], []], [[0], [10], [20]], [[0, 1], [10, 11], [20, 21]]]


@pytest.mark.parametrize("rows", [1, 16, 1000])
def test_any_number_of_ranks_counts_the_same_to_the_bit(tmp_path, rows):
    """Also where there are fewer shares than ranks, lists lie across shares, and sums of numbers depend on their order."""
    events = random_events(5, {"find": 120, "home": 90, "new": 45})
    for row in events["find"]:
        row["row"] //= 3
    raw = plain(write_world(tmp_path, events, files=3, group=4))
    raw["domains"]["find"]["tasks"]["buy"] = {"kind": "regression", "label": "rank"}
    raw["domains"]["find"]["tasks"]["click"] = {"label": "click", "list_loss": "softmax"}
    experiment = load_experiment(raw, kinds=KINDS)
    ((alone, counted),) = run_ranks(saved, 1, experiment, tmp_path, rows)
    assert counted == 255
    for ranks in (2, 3):
        several = run_ranks(saved, ranks, experiment, tmp_path, rows)
        assert [files for files, _ in several] == [alone] * ranks
        assert sum(counted for _, counted in several) == 255
        assert rows == 1000 or min(counted for _, counted in several) > 255 // ranks // 2


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
