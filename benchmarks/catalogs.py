"""Memory of an item catalog on the ranks of one machine, against its rows and the ranks, into docs/results/performance.md.

    python -m benchmarks.catalogs

Catalogs are generated: string ids, three categories, two numbers, a list of tags and a given vector of 16. Each rank opens the row encoder, as
a training does. Its memory is its proportional set size, in which a page that several processes map counts in equal parts; what
it was before the catalog is subtracted.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.distributed as torch_dist
import torch.multiprocessing as processes
import typer
import yaml

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.data.counting.counting_pass import count
from foundrank.data.events.check_events import check_events
from foundrank.data.machine.memory import give_back_memory
from foundrank.dist.exchange.row_encoders import row_encoder
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.kinds import KINDS

from .jobs import Out

EVENTS, AT_ONCE, SIZE = 20_000, 200_000, 16


def write_world(folder: Path, items: int) -> None:
    """Events, a catalog of so many items, and the experiment."""
    random = np.random.default_rng(0)
    ids = [f"item-{number:09d}" for number in random.integers(0, items, EVENTS)]
    users, clicks = random.integers(0, 1000, EVENTS), random.integers(0, 2, EVENTS)
    pq.write_table(pa.table({"user": users, "item": ids, "click": clicks}), folder / "events.parquet")
    writer = None
    for start in range(0, items, AT_ONCE):
        rows = min(AT_ONCE, items - start)
        table = pa.table(
            {
                "item": [f"item-{number:09d}" for number in range(start, start + rows)],
                **{f"category{n}": pa.array(random.integers(0, 10 ** (n + 1), rows)) for n in range(3)},
                **{f"number{n}": pa.array(random.normal(size=rows).astype(np.float32)) for n in range(2)},
                "tags": pa.ListArray.from_arrays(np.arange(0, 4 * rows + 1, 4), random.integers(0, 500, 4 * rows)),
                "picture": pa.FixedSizeListArray.from_arrays(random.normal(size=rows * SIZE).astype(np.float32), SIZE),
            }
        )
        writer = writer or pq.ParquetWriter(folder / "items.parquet", table.schema)
        writer.write_table(table)
    assert writer is not None
    writer.close()
    features: dict[str, Any] = {f"category{n}": {"kind": "categorical"} for n in range(3)}
    features |= {f"number{n}": {"kind": "dense"} for n in range(2)} | {"tags": {"kind": "list"}}
    item = {
        "id": "item",
        "catalog": {"path": "items.parquet", "key": "item"},
        "features": features,
        "contents": {"picture": {"vector": "picture", "size": SIZE}},
    }
    events = {"train": "events.parquet"}
    domain = {"kind": "recommendation", "events": events, "tasks": {"click": {"label": "click"}}}
    experiment = {"name": "catalogs", "entities": {"user": {"id": "user"}, "item": item}, "domains": {"home": domain}}
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")


def proportional() -> float:
    """This process's proportional set size, MB."""
    give_back_memory()
    (line,) = [line for line in Path("/proc/self/smaps_rollup").read_text().splitlines() if line.startswith("Pss:")]
    return int(line.split()[1]) / 1024


def _rank(rank: int, ranks: int, folder: str, shared: bool) -> None:
    torch.set_num_threads(1)
    torch_dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store-{ranks}-{shared}", rank=rank, world_size=ranks
    )
    runtime = Runtime(rank, ranks, torch.device("cpu"))
    experiment = load_experiment(Path(folder), kinds=KINDS)
    train = {name: splits["train"] for name, splits in check_events(experiment).items()}
    statistics = count(experiment, train)
    before = runtime.gather(proportional())
    runtime.barrier()
    encoder = row_encoder(experiment, statistics, runtime) if shared else RowEncoder(experiment, statistics)
    for catalog in encoder._catalogs.values():  # so that every rank has touched every page
        for array in (catalog.keys, *catalog.columns.singles.values(), *catalog.columns.dense.values()):
            array.max(initial=0)
        for vectors, _ in catalog.given.values():
            vectors.sum()
        for values, _ in catalog.columns.lists.values():
            values.sum()
    runtime.barrier()
    after = runtime.gather(proportional())
    runtime.barrier()
    if runtime.is_main:
        (Path(folder) / "found.json").write_text(json.dumps(sum(after) - sum(before)), encoding="utf-8")
    torch_dist.destroy_process_group()


def catalogs(
    items: Annotated[str, typer.Option(help="rows of catalogs, comma-separated")] = "100000,1000000",
    ranks: Annotated[str, typer.Option(help="numbers of ranks, comma-separated")] = "1,2,4",
    out: Out = Path("docs/results/performance.md"),
) -> None:
    """Measures each catalog on each number of ranks, as it is and with a copy in each rank, and writes the section."""
    rows = []
    for many in map(int, items.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            write_world(Path(folder), many)
            for of in map(int, ranks.split(",")):
                found = {}
                for shared in (False, True):
                    processes.spawn(_rank, (of, folder, shared), nprocs=of)  # type: ignore[attr-defined]
                    found[shared] = json.loads((Path(folder) / "found.json").read_text(encoding="utf-8"))
                rows.append((many, of, found[False], found[True]))
                print(rows[-1], flush=True)
    write_section(out, "catalogs", section(rows))


def section(rows: list[tuple[int, int, float, float]]) -> str:
    """Markdown of items, ranks; MB with a copy in each rank, and as it is."""
    lines = [
        "| items | ranks | a copy each, MB | one copy, MB |",
        "| ---: | ---: | ---: | ---: |",
        *(f"| {items:,} | {ranks} | {copies:,.0f} | {one:,.0f} |" for items, ranks, copies, one in rows),
    ]
    told = f"""    python -m benchmarks.catalogs

One rank of a machine reads the catalogs and the ids of the content stores, and all map what it has made of them. Proportional set sizes,
summed over the ranks, less what they were before. A generated catalog: string ids, three categories, two numbers, a list
of four tags, a given vector of {SIZE}."""
    return "## Catalogs on the ranks of a machine\n\n" + told + "\n\n" + "\n".join(lines)


if __name__ == "__main__":
    typer.run(catalogs)
