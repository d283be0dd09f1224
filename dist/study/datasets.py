"""The study's data: data sets imported or simulated, cut to size, and the new domain in fractions."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ...data.config.load import load_experiment
from ...data.errors import UserError
from ...data.simulation.worlds import simulate
from ...data.sources.importers import HOLDING_OUT, IMPORTERS
from ...data.storage.globs import expand_glob
from ...data.storage.local_writes import write_text
from ...model.kinds import KINDS
from .arms import FRACTIONS, UNSEEN, DataSet

_GROUP = 10_000
_ROWS_SIMULATED = 300_000


def prepare_data(data: DataSet, source: Path | None, folder: Path, full: bool) -> Path:
    """Makes a data set's experiment, once; its file. One that is there stays as it is (`check_rows`).

    Every domain's training events become one file of at most ``data.rows`` rows, drawn at random; those of the new domain one
    more for each fraction, each a part of the next larger. Where the next item is sought, a tenth of the items is held out of
    training, and all rows stay.

    Args:
        data: which.
        source: folder with all sources; only the simulated one needs none.
        folder: where the study keeps its data.
        full: keeps all rows.

    Raises:
        UserError: its source is not there.
    """
    made = folder / data.name
    path = made / "study.yaml"
    if path.exists():
        return path
    if not made.exists():
        if not data.sources:
            simulate(made, 2 * _ROWS_SIMULATED if full else _ROWS_SIMULATED, 2026)
        elif data.cold is None:
            HOLDING_OUT[data.name](_source(data, source), made, 2026, UNSEEN)
        else:
            IMPORTERS[data.name](_source(data, source), made, 2026)
    if data.cold is None:
        write_text(path, (made / "experiment.yaml").read_text(encoding="utf-8"))
        return path
    experiment = load_experiment(made, kinds=KINDS)
    raw = yaml.safe_load((made / "experiment.yaml").read_text(encoding="utf-8"))
    for name, domain in experiment.domains.items():
        of_train = {f"{fraction:.0%}": fraction for fraction in (FRACTIONS if name == data.cold else (1.0,))}
        for split, parts in (("train", of_train), ("validation", {"validation": 1.0}), ("test", {"test": 1.0})):
            rows = pa.concat_tables([pq.read_table(file) for file in expand_glob(getattr(domain.events, split))])
            order = np.random.default_rng(0).permutation(len(rows))[: len(rows) if full else data.rows]
            for part, fraction in parts.items():
                kept = np.sort(order[: max(1, round(fraction * len(order)))])
                out = made / "events" / name / f"study-{part}" / "part.parquet"
                out.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(rows.take(pa.array(kept)), out, row_group_size=_GROUP)
        raw["domains"][name]["events"] |= {
            "train": f"events/{name}/study-100%/part.parquet",
            "validation": f"events/{name}/study-validation/part.parquet",
            "test": f"events/{name}/study-test/part.parquet",
        }
    write_text(path, yaml.safe_dump(raw, sort_keys=False))
    return path


def rows_of(data: DataSet, path: Path) -> int:
    """How many rows of a domain's splits a data set was cut to, whatever is asked for today; 0 for all.

    Args:
        data: which.
        path: its experiment, as `prepare_data` made it.
    """
    most, cut = _most_rows(path) if data.cold is not None else (0, False)
    return most if cut else 0


def check_rows(data: DataSet, folder: Path, full: bool) -> None:
    """Makes sure that a data set that is there already was not made with another ``full``; arguments as of `prepare_data`.

    Raises:
        UserError: it was.
    """
    made = folder / data.name
    path = made / "study.yaml"
    if data.cold is None or not path.exists():
        return
    most, cut = _most_rows(path)
    if full and cut:
        what = f"was cut to {most:,} rows of each domain's training, validation and test, and --full asks for all"
        raise UserError(made, what, "Give a new OUT, or leave out --full.")
    if not full and not cut and most > data.rows:
        what = f"has all rows, up to {most:,} of a domain, and without --full at most {data.rows:,} are asked for"
        raise UserError(made, what, "Give a new OUT, or --full.")


def _most_rows(path: Path) -> tuple[int, bool]:
    """Rows of the largest split of an experiment's domains, and whether one was cut.

    Counted rather than noted, so that what an earlier version made is known, too.
    """
    of_study, of_all = (load_experiment(each, kinds=KINDS).domains for each in (path, path.parent))
    pairs = [
        (_rows(getattr(domain.events, split)), _rows(getattr(of_all[name].events, split)))
        for name, domain in of_study.items()
        for split in ("train", "validation", "test")
    ]
    return max(kept for kept, _ in pairs), any(kept != there for kept, there in pairs)


def _rows(pattern: str) -> int:
    return sum(pq.read_metadata(file).num_rows for file in expand_glob(pattern))


def _source(data: DataSet, source: Path | None) -> Path:
    """The first of a data set's folders that is there."""
    for folder in (source / name for name in data.sources if source is not None):
        if folder.is_dir():
            return folder
    raise UserError(f"--data {source}", f"has no folder '{data.sources[-1]}'", "Give the folder with the data sets.")
