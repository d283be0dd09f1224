"""What a rank holds of the rows it reads and writes follows the largest row group, and is refused where it does not fit."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foundrank.data.config.sections.bad_data import BadDataConfig
from foundrank.data.errors import UserError
from foundrank.data.events.event_files import EventFiles, list_events
from foundrank.dist.capacity.footprint import PROCESS
from foundrank.dist.capacity.reading import arrow_bytes, check_held, held_by_reader, held_by_scorer
from foundrank.dist.sharding.planner import Ranks
from tests.tiny_world import encoder_of, random_events, write_world

MIB = 2**20
RANKS = Ranks("cpu", 1, 1, 2**40)


def files(folder: Path, group: int, rows: int = 40_000) -> EventFiles:
    folder.mkdir()
    lists = pa.array([[1, 2, 3]] * rows)
    table = pa.table(
        {"user": pa.array(["u1"] * rows), "item": pa.array(range(rows)), "history": lists, "note": ["x" * 50] * rows}
    )
    pq.write_table(table, folder / "a.parquet", row_group_size=group)
    return list_events(f"{folder}/*.parquet", "the input", BadDataConfig())


def test_bytes_of_a_row_are_those_of_its_columns(tmp_path: Path):
    found = files(tmp_path / "in", 40_000)
    assert arrow_bytes(found, ["item"]) == pytest.approx(8, rel=0.05)
    assert arrow_bytes(found, ["user", "absent"]) == pytest.approx(6, rel=0.05)
    assert arrow_bytes(found, ["note", "history"]) == pytest.approx(54 + 28, rel=0.05)


def test_the_largest_row_group_counts(tmp_path: Path):
    experiment = write_world(tmp_path / "world", random_events(0, {"find": 50, "home": 50, "new": 50}))
    layout = encoder_of(experiment).layout
    small, large = files(tmp_path / "small", 4_000), files(tmp_path / "large", 40_000)
    columns = ["user", "item", "history", "note"]
    of_small, of_large = (held_by_scorer(layout, found, columns, ["note"]) for found in (small, large))
    assert of_large > 1.5 * of_small
    assert of_large > held_by_scorer(layout, large, columns, ["item"]) + 40_000 * 2 * 40
    train = list_events(experiment.domains["find"].events.train, "find", BadDataConfig())
    once = held_by_reader(experiment, layout, {"find": train}, RANKS)
    grown = EventFiles(train.files, ((50_000,),))
    assert held_by_reader(experiment, layout, {"find": grown}, RANKS) > 500 * once
    cut = EventFiles(train.files, ((500,) * 100,))
    assert (
        held_by_reader(experiment, layout, {"find": cut}, RANKS)
        < held_by_reader(experiment, layout, {"find": grown}, RANKS) / 2
    )


def test_what_does_not_fit_is_told_with_the_way_out():
    ranks = Ranks("cpu", 2, 2, int(PROCESS["cpu"]) + 100 * MIB)
    assert check_held(60 * MIB, 39 * MIB, ranks, "tables", "Buy more.").startswith("about 0.80 GiB")
    told = r"2 rank\(s\) of 0\.8 GiB: need about 0\.81 GiB .* 0\.70 for Python .* mostly for tables\. Buy more"
    with pytest.raises(UserError, match=told):
        check_held(70 * MIB, 41 * MIB, ranks, "tables", "Buy more.")
