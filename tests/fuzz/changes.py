"""What may happen to what a command is given: to a column, a file, the experiment, a name.

A change is ``(random, folder) -> Change | None``; None where there is nothing to change.
"""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml


@dataclass(frozen=True)
class Change:
    """What was done, and whether the data still say the same, so that a command either refuses or gives what it gave."""

    what: str
    same: bool = False


Changer = Callable[[random.Random, Path], Change | None]

# Another way to hold the same values.
_SAME = {
    "int": [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()],
    "string": [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()), pa.string()],
    "float": [pa.float64(), pa.float32()],
}
_OTHER = [
    *_SAME["int"], *_SAME["string"], *_SAME["float"], pa.bool_(), pa.float16(), pa.binary(), pa.large_binary(), pa.null(),
    pa.date32(), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.time64("us"), pa.duration("s"), pa.decimal128(20, 3),
    pa.list_(pa.int64()), pa.list_(pa.string()), pa.list_(pa.float32()), pa.large_list(pa.int32()), pa.list_(pa.null()),
    pa.list_(pa.int64(), 2), pa.list_(pa.list_(pa.int64())), pa.struct([("a", pa.int64())]), pa.map_(pa.string(), pa.int64()),
    pa.dictionary(pa.int8(), pa.int64()), pa.binary(3), pa.list_(pa.binary()), pa.month_day_nano_interval(),
]  # fmt: skip
_ODD: list[Any] = [
    None, float("nan"), float("inf"), -float("inf"), 1e300, -1.8e308, 1e-320, -1, 0, 2**31, 2**63 - 1, -(2**63), 2**64 - 1, True,
    "", " ", "7", "x" * 3000, "\x1b[31mred\x1b[0m", "a\nb", "\u202egnp", "nul\x00", "größe", [], [None], [1, None, 2**62], ["a", ""],
    [float("nan")], [1.0] * 700,
]  # fmt: skip
_NAMES = [
    "a b",
    "a[1]",
    "a*b",
    "größe",
    "a\nb",
    "\x1b[31m",
    "a;b=c",
    "'",
    "$HOME",
    "-x",
    "%s",
    "{x}",
    ".a",
    "_a",
    "a" * 200,
]
_VALUES: list[Any] = [
    None, True, 0, -1, 1, 2, 1e9, 10**30, float("inf"), float("nan"), 0.5, "", "x", "\x1b[31m", "{item}", "{", "none", [], ["x"],
    [None], {}, {"a": 1}, "*.parquet", "../..", "/", "s3://key:secret@bucket/x",
]  # fmt: skip


def parquet(random: random.Random, folder: Path) -> tuple[Path, pa.Table] | None:
    """One of a folder's Parquet files that are data, and what it holds; None where that cannot be read."""
    files = sorted(p for p in folder.rglob("*.parquet") if not {"run", "sequences", "store"} & set(p.parts))
    path = random.choice(files) if files else None
    try:
        return None if path is None else (path, pq.ParquetFile(path).read())
    except (pa.ArrowException, OSError):
        return None


def _rewritten(path: Path, table: pa.Table, random: random.Random) -> None:
    pq.write_table(table, path, row_group_size=random.choice([7, 1000]))


def same_values(random: random.Random, folder: Path) -> Change | None:
    """Another type that holds the same values."""
    found = parquet(random, folder)
    if found is None or not found[1].num_columns:
        return None
    path, table = found
    at = random.randrange(table.num_columns)
    name, column = table.column_names[at], table.column(at)
    of_list = pa.types.is_list(column.type)
    value = column.type.value_type if of_list else column.type
    kind = "int" if pa.types.is_integer(value) else "string" if pa.types.is_string(value) else "float"
    new = random.choice(_SAME[kind])
    if of_list:
        new = random.choice([pa.list_, pa.large_list])(new)
    try:
        changed = column.cast(new)
        if not changed.cast(column.type).equals(column):
            return None
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    _rewritten(path, table.set_column(at, name, changed), random)
    return Change(f"{path.name}: {name} from {column.type} to {new}", same=True)


def other_type(random: random.Random, folder: Path) -> Change | None:
    """Any type, with what can be cast of the values, else with some of its own."""
    found = parquet(random, folder)
    if found is None or not found[1].num_columns:
        return None
    path, table = found
    new = random.choice(_OTHER)
    at = random.randrange(table.num_columns)
    try:
        column: Any = table.column(at).cast(new, safe=random.random() < 0.5)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        column = pa.nulls(table.num_rows, new)
    try:
        _rewritten(path, table.set_column(at, table.column_names[at], column), random)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
        return None  # Parquet cannot hold it
    return Change(f"{path.name}: {table.column_names[at]} is {new}")


def odd_values(random: random.Random, folder: Path) -> Change | None:
    """Some values that are odd, or none."""
    found = parquet(random, folder)
    if found is None or not found[1].num_columns:
        return None
    path, table = found
    odd = random.choice(_ODD)
    at, share = random.randrange(table.num_columns), random.choice([0.02, 0.3, 1.0])
    values = [odd if random.random() < share else value for value in table.column(at).to_pylist()]
    for kind in (table.column(at).type, None, pa.string()):
        try:
            column = pa.array(values if kind != pa.string() else [v if v is None else str(v) for v in values], kind)
            _rewritten(path, table.set_column(at, table.column_names[at], column), random)
        except (
            pa.ArrowInvalid,
            pa.ArrowTypeError,
            pa.ArrowNotImplementedError,
            OverflowError,
            TypeError,
            UnicodeError,
        ):
            continue
        return Change(f"{path.name}: {share:.0%} of {table.column_names[at]} are {str(odd)[:40]!r} ({column.type})")
    return None


def columns(random: random.Random, folder: Path) -> Change | None:
    """A column twice, gone, under another name; or all in another order, which says the same."""
    found = parquet(random, folder)
    if found is None or not found[1].num_columns:
        return None
    path, table = found
    how = random.choice(["twice", "gone", "named", "order"])
    at = random.randrange(table.num_columns)
    name = table.column_names[at]
    if how == "twice":
        table = table.append_column(name, table.column(random.randrange(table.num_columns)))
    elif how == "gone":
        table = table.remove_column(at)
    elif how == "named":
        table = table.rename_columns([random.choice(_NAMES) if n == name else n for n in table.column_names])
    else:
        table = table.select(random.sample(table.column_names, table.num_columns))
    _rewritten(path, table, random)
    return Change(f"{path.name}: column {name} {how}", same=how == "order")


def rows(random: random.Random, folder: Path) -> Change | None:
    """No rows, one row, or row groups of another size, which say the same."""
    found = parquet(random, folder)
    if found is None or not found[1].num_columns:
        return None
    path, table = found
    how = random.choice([0, 1, None])
    pq.write_table(table if how is None else table.slice(0, how), path, row_group_size=random.choice([1, 9, 10_000]))
    return Change(f"{path.name}: {'row groups' if how is None else f'{how} rows'}", same=how is None)


def damage(random: random.Random, folder: Path) -> Change | None:
    """A byte changed, an end cut off, nothing left, nonsense, gone, a folder, a link: of any file."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        return None
    path, how = random.choice(files), random.choice(["byte", "cut", "empty", "nonsense", "gone", "folder", "link"])
    held = bytearray(path.read_bytes())
    if how == "byte" and held:
        held[random.randrange(len(held))] ^= 1 << random.randrange(8)
    elif how == "cut":
        del held[random.randrange(len(held) + 1) :]
    elif how == "nonsense":
        held = bytearray(random.randbytes(50))
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to(path.with_name("nowhere"))
    elif how != "gone":
        path.write_bytes(b"" if how == "empty" else bytes(held))
    return Change(f"{path.relative_to(folder)}: {how}")


def experiment(random: random.Random, folder: Path) -> Change | None:
    """A field of the experiment has another value, is gone, or has another name."""
    path = folder / "experiment.yaml"
    try:
        held = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeError):
        return None
    places: list[tuple[Any, Any]] = []

    def look(value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            places.append((value, key))
            look(value[key])

    look(held)
    if not places:
        return None
    (where, key), value = random.choice(places), random.choice(_VALUES)
    how = random.choice(["value", "value", "gone", "name"])
    if how == "value" or isinstance(where, list):
        where[key] = value
    else:
        old = where.pop(key)
        if how == "name":
            where[random.choice([*_NAMES, 7, None, True])] = old
    path.write_text(yaml.safe_dump(held, sort_keys=False, allow_unicode=True))
    return Change(f"experiment: {key} {how} {str(value)[:30]!r}")


def text(random: random.Random, folder: Path) -> Change | None:
    """A stretch of the experiment's text is gone, or there twice."""
    path = folder / "experiment.yaml"
    if not path.is_file():
        return None
    held = path.read_bytes()
    start = random.randrange(len(held) + 1)
    end = min(len(held), start + random.randrange(1, 60))
    twice = random.random() < 0.5
    path.write_bytes(held[:end] + held[start:] if twice else held[:start] + held[end:])
    return Change(f"experiment: bytes {start} to {end} {'twice' if twice else 'gone'}")


def another_name(random: random.Random, folder: Path) -> Change | None:
    """A file or a folder of what is to be read has an odd name."""
    below = [path for name in ("input", "users") if (folder / name).is_dir() for path in (folder / name).iterdir()]
    if not below:
        return None
    path, name = random.choice(sorted(below)), random.choice(_NAMES)
    path.rename(path.with_name(f"{name}.parquet"))
    hidden = name.startswith((".", "_"))
    return Change(f"{path.name} is called {name!r}", same=not hidden)


def more_files(random: random.Random, folder: Path) -> Change | None:
    """What other tools leave beside data: it is no data."""
    into = random.choice([folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())])
    found = parquet(random, folder)
    name = random.choice(["_temporary", "_delta_log", ".hidden", "_SUCCESS", ".crc"])
    if (into / name).exists():
        return None
    if found is not None and random.random() < 0.5:
        (into / name).mkdir()
        shutil.copy(found[0], into / name / "part-9.parquet")
    else:
        (into / name).write_bytes(b"")
    return Change(f"{into.name}/{name} is there", same=True)


CHANGES: dict[str, Changer] = {
    "same_values": same_values,
    "other_type": other_type,
    "odd_values": odd_values,
    "columns": columns,
    "rows": rows,
    "damage": damage,
    "experiment": experiment,
    "text": text,
    "another_name": another_name,
    "more_files": more_files,
}
