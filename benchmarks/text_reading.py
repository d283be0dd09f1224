"""Training with vectors from the text store against the same vectors as columns of the events, into a results file.

python -m benchmarks.text_reading --repeats 5
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
import yaml

from foundrank.data.contents.content_store import open_store
from foundrank.dist.study.markdown_sections import write_section

from .machine import calibration

STORE, INLINE = "text store", "columns of the events"
_WARM_UP = 5  # lines of metrics.jsonl left out at the start


def text_reading(
    rows: Annotated[int, typer.Option(min=20_000, help="events to simulate")] = 300_000,
    repeats: Annotated[int, typer.Option(min=1, help="trainings of each kind")] = 5,
    work: Annotated[Path, typer.Option(help="folder for data and runs")] = Path("runs/text_reading"),
    out: Annotated[Path, typer.Option(help="Markdown file to put the section into")] = Path("docs/results/results.md"),
) -> None:
    """Measures and writes the section."""
    folder = work / "data"
    if not (folder / "inline.yaml").exists():
        shutil.rmtree(folder, ignore_errors=True)
        _foundrank("simulate", folder, "--rows", rows)
        _foundrank("embed", folder)
        _write_inline(folder)
    found: dict[str, list[dict[str, float]]] = {STORE: [], INLINE: []}
    for repeat in range(repeats):
        for kind, name in ((STORE, "stored.yaml"), (INLINE, "inline.yaml")):
            run = work / "run"
            shutil.rmtree(run, ignore_errors=True)
            steps = ["--set", "training.keep_best=false", "--set", "training.epochs=1", "--set", "training.log_every=5"]
            _foundrank("train", folder / name, "--run-dir", run, "-p", 2, *steps)
            lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()][
                _WARM_UP:
            ]
            found[kind].append(
                {key: float(np.median([line[key] for line in lines])) for key in ("samples_per_s", "data_wait_share")}
            )
            print(f"run {repeat + 1}, {kind}: {found[kind][-1]}", flush=True)
    write_section(out, "text reading", _section(found, rows, repeats, folder))
    (work / "text_reading.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def _write_inline(folder: Path) -> None:
    """Two experiments without a history: one reads the stores, one has each row's vectors beside it in the events."""
    raw: dict[str, Any] = yaml.safe_load((folder / "experiment.yaml").read_text(encoding="utf-8"))
    raw["entities"]["user"].pop("history", None)
    (folder / "stored.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    stores = {name: open_store(folder / "text_store" / name) for name, e in raw["entities"].items() if "text" in e}
    ids = {raw["entities"][name]["id"]: name for name in stores}
    for path in sorted(folder.glob("events/*/*/*.parquet")):
        file = pq.ParquetFile(path)
        table = file.read()
        for column, name in ids.items():
            if column in table.column_names:
                table = table.append_column(f"{name}_vector", _vectors(table[column], stores[name]))
        target = folder / "inline" / path.relative_to(folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, target, row_group_size=file.metadata.row_group(0).num_rows, compression="zstd")
    for name, store in stores.items():
        raw["entities"][name].pop("text")
        raw["entities"][name]["text_vector"] = {"column": f"{name}_vector", "size": store.size}
    for domain in raw["domains"].values():
        domain["events"] = {split: f"inline/{pattern}" for split, pattern in domain["events"].items()}
    (folder / "inline.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")


def _vectors(ids: pa.ChunkedArray, store: Any) -> pa.Array:
    """``list<float>`` of each id's vector; null where it has none."""
    at = pc.index_in(ids.combine_chunks().cast(store.keys.type), value_set=store.keys)
    known = at.is_valid().to_numpy(zero_copy_only=False)
    rows = store.row_of_key[at.fill_null(0).to_numpy(zero_copy_only=False)]
    values = pa.array(store.vectors.numpy()[rows].astype(np.float32).reshape(-1))
    return pa.FixedSizeListArray.from_arrays(values, store.size, mask=pa.array(~known))


def _section(found: dict[str, list[dict[str, float]]], rows: int, repeats: int, folder: Path) -> str:
    rates = {kind: np.array([run["samples_per_s"] for run in runs]) for kind, runs in found.items()}
    ratio = rates[STORE] / rates[INLINE]  # run by run: neighbours in time
    sizes = {
        STORE: sum(path.stat().st_size for name in ("events", "text_store") for path in (folder / name).rglob("*.*")),
        INLINE: sum(path.stat().st_size for path in (folder / "inline").rglob("*.*")),
    }
    lines = [
        f"| {kind} | {np.median(rates[kind]):,.0f} | {rates[kind].min():,.0f}–{rates[kind].max():,.0f} "
        f"| {100 * np.median([run['data_wait_share'] for run in runs]):.0f} % | {sizes[kind] / 1e6:,.0f} |"
        for kind, runs in found.items()
    ]
    return f"""### Training from the text store

    python -m benchmarks.text_reading --rows {rows} --repeats {repeats}

{calibration()} The simulated experiment without its history, 2 ranks, one epoch of {rows:,} events, 384-wide vectors of user, query
and item; medians of {repeats} trainings of each kind that took turns.

| vectors from | samples/s | range | waiting for data | MB on disk |
| --- | ---: | ---: | ---: | ---: |
{chr(10).join(lines)}

Text store ÷ columns, run by run: {np.median(ratio):.2f} ({ratio.min():.2f}–{ratio.max():.2f})."""


def _foundrank(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "foundrank.dist.cli", *map(str, arguments)], check=True)


if __name__ == "__main__":
    typer.run(text_reading)
