"""What ranks of a machine only read is made once, and in memory once."""

import pickle
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from foundrank.data.arrow.column_types import plain_table
from foundrank.data.batch.encoded_catalogs import encode_catalogs
from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.experiment import Experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.errors import UserError
from foundrank.dist.exchange import once_a_host as module
from foundrank.dist.exchange.once_a_host import once_a_host
from foundrank.dist.exchange.row_encoders import row_encoder
from foundrank.dist.ranks.runtime import Runtime
from tests.tiny_world import SCHEMAS, random_events, train_files, write_world

from .harness import run_ranks

ROWS = 3_000


@dataclass(frozen=True)
class Value:
    """Of arrays here and there."""

    arrays: dict[str, tuple[np.ndarray, np.ndarray]]
    name: str


def made() -> Value:
    first = np.arange(ROWS, dtype=np.int64)
    return Value({"one": (first, np.zeros((0, 3), np.float32)), "two": (first, np.ones((7, ROWS), np.float32).T)}, "n")


def told(value: Value) -> list[Any]:
    return [value.name, {name: [array.tolist() for array in of] for name, of in value.arrays.items()}]


def mapped_in(array: np.ndarray) -> str | None:
    """The file, with its inode, that holds an array's memory; None for memory that has none."""
    at = array.ctypes.data
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, _, _, device, inode, *_ = line.split()
        first, last = (int(end, 16) for end in place.split("-"))
        if first <= at < last:
            return f"{device} {inode}" if inode != "0" else None
    return None


def left_behind() -> list[str]:
    return [path.name for path in Path(module.tempfile.gettempdir()).glob("foundrank-*") if path.is_file()]


def shared(runtime: Runtime) -> tuple[int, list[Any], str | None, list[str]]:
    calls = []
    value = once_a_host(lambda: calls.append(1) or made(), runtime)
    first = value.arrays["one"][0]
    assert value.arrays["two"][0] is first, "an array that is there twice is one"
    found = told(value), mapped_in(first)
    first += runtime.rank + 1  # of this rank alone
    runtime.barrier()
    assert first[0] == runtime.rank + 1
    return len(calls), *found, left_behind()


def test_one_rank_makes_it_and_all_map_the_same_file(tmp_path: Path):
    results = run_ranks(in_folder, 3, tmp_path)
    assert [calls for calls, *_ in results] == [1, 0, 0]
    assert all(value == told(made()) for _, value, *_ in results)
    assert results[0][2] is not None
    assert len({file for _, _, file, _ in results}) == 1
    assert all(names == [] for *_, names in results), "the file has no name any more"


def in_folder(runtime: Runtime, folder: Path) -> tuple[int, list[Any], str | None, list[str]]:
    module.tempfile.tempdir = str(folder)
    return shared(runtime)


def failing(runtime: Runtime) -> str:
    def fail() -> Value:
        raise UserError("items.parquet", "is bad", "Mend it.")

    try:
        once_a_host(fail, runtime)
    except UserError as error:
        return str(error)
    return "nothing"


def failing_elsewhere(runtime: Runtime, folder: Path) -> tuple[str, list[str]]:
    """Each rank is a machine's maker, and that of the last machine fails."""
    module.tempfile.tempdir = str(folder)
    module.socket.gethostname = lambda: f"host-{runtime.rank // 2}"

    def make() -> Value:
        if runtime.rank == 2:
            raise UserError("items.parquet", "is bad", "Mend it.")
        return made()

    try:
        once_a_host(make, runtime)
    except UserError as error:
        runtime.barrier()
        return str(error), left_behind()
    return "nothing", []


def test_a_mistake_on_one_machine_is_told_by_all_and_leaves_nothing(tmp_path: Path):
    results = run_ranks(failing_elsewhere, 3, tmp_path)
    assert all("items.parquet" in told for told, _ in results)
    assert all(names == [] for _, names in results)


def test_a_mistake_that_one_rank_finds_is_told_by_all():
    first, second = run_ranks(failing, 2)
    assert first == second
    assert "items.parquet" in first


def without_room(runtime: Runtime, most: int) -> tuple[list[Any], str | None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        value = once_a_host(made, runtime)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not left_behind()
    return told(value), mapped_in(value.arrays["one"][0])


@pytest.mark.parametrize("most", [1000, 24_000, 24_010, 24_070, 100_000])
def test_where_there_is_no_room_each_has_its_own(most: int):
    """Whatever it is that does not fit: an array, what is between two, or the end of the last."""
    for value, file in run_ranks(without_room, 2, most):
        assert value == told(made())
        assert file is None


def unseen(runtime: Runtime) -> tuple[list[Any], str | None]:
    if runtime.rank == 1:  # a container with a name like another's has other files
        module._read = lambda _written: None
    value = once_a_host(made, runtime)
    return told(value), mapped_in(value.arrays["one"][0])


def test_a_rank_that_cannot_see_the_file_makes_its_own():
    (first, in_file), (second, alone) = run_ranks(unseen, 2)
    assert first == second == told(made())
    assert in_file is not None
    assert alone is None


def encoded(runtime: Runtime, experiment: Experiment, folder: Path) -> tuple[str | None, list[bytes]]:
    files = train_files(experiment)
    statistics = count(experiment, files)
    encoder, alone = row_encoder(experiment, statistics, runtime), RowEncoder(experiment, statistics)
    found = []
    for name in experiment.domains:
        table = plain_table(pq.read_table(folder / name), keep_dictionaries=True)
        rows, expected = (
            encoder.encode(name, table, name, with_host=True),
            alone.encode(name, table, name, with_host=True),
        )
        for key, values in vars(expected).items():
            np.testing.assert_equal(vars(rows)[key], values, err_msg=key)
        found += [rows.singles.tobytes(), rows.dense.tobytes()]
    for key, content in alone.contents.items():
        assert torch.equal(encoder.contents[key].vectors, content.vectors), key
    np.testing.assert_equal(vars(encoder.items(trained=False)), vars(alone.items(trained=False)))
    return mapped_in(encoder._catalogs["item"].keys), found


def test_rows_are_encoded_as_by_one_process(tmp_path: Path):
    experiment = write_world(tmp_path, random_events(1, dict.fromkeys(SCHEMAS, 60)))
    first, second = run_ranks(encoded, 2, experiment, tmp_path)
    assert first == second
    assert first[0] is not None


def test_no_array_of_a_catalog_goes_from_rank_to_rank(tmp_path: Path):
    experiment = write_world(tmp_path, random_events(1, dict.fromkeys(SCHEMAS, 60)))
    catalogs = encode_catalogs(experiment, count(experiment, train_files(experiment)))
    written = module._write(catalogs)
    assert written is not None
    again = module._read(written)
    written.file.unlink()
    assert b"ndarray" in pickle.dumps(catalogs)
    assert b"ndarray" not in pickle.dumps(written)
    np.testing.assert_equal(vars(again.of["item"].columns), vars(catalogs.of["item"].columns))
