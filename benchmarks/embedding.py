"""`foundrank embed` against sentence-transformers on the same texts, model and cores, into a results file.

    pip install --no-deps sentence-transformers
    python -m benchmarks.embedding --source FOLDER --repeats 5

FOLDER holds the data sets ``completejourney`` and ``amazon_beauty``. Every run is a process of its own, and the runs of
all contestants take turns. Times are of encoding only for sentence-transformers, and of the whole job after loading the
libraries for foundrank: reading the catalog, loading the model, encoding, writing the store.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer

from foundrank.data.config.kinds import experiment_type
from foundrank.data.config.load import load_experiment
from foundrank.data.contents.content_store import open_store
from foundrank.data.sources.completejourney import import_completejourney
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.kinds import KINDS

from .embedding_run import cosines
from .machine import calibration

OURS, THEIRS, THEIRS_DISTINCT = "foundrank", "sentence-transformers", "sentence-transformers, distinct texts only"
GROWTH = (10_000, 100_000, 1_000_000)


def embedding(
    source: Annotated[Path, typer.Option(help="folder of the data sets")],
    repeats: Annotated[int, typer.Option(min=1, help="runs of each contestant")] = 5,
    work: Annotated[Path, typer.Option(help="folder for catalogs and stores")] = Path("runs/embedding"),
    out: Annotated[Path, typer.Option(help="Markdown file to put the section into")] = Path("docs/results/results.md"),
    growth: Annotated[bool, typer.Option(help="also measure memory for up to a million texts")] = True,
) -> None:
    """Measures and writes the section."""
    work = work.absolute()  # paths inside an experiment are relative to its file
    catalogs = {
        "completejourney products": _completejourney(source / "completejourney", work),
        "amazon_beauty titles": _amazon_beauty(source / "amazon_beauty" / "items.parquet", work),
    }
    lines, results, likeness = [], {}, {}
    for name, experiment in catalogs.items():
        results[name] = _compare(experiment, repeats, work)
        lines += _rows(name, results[name])
        likeness[name] = cosines(*(work / f"{experiment.parent.name}-{whose}.npy" for whose in ("ours", "theirs")))
    grown = {rows: _grow(rows, work) for rows in GROWTH} if growth else {}
    write_section(out, "embedding", _section(lines, likeness, grown, repeats))
    (work / "embedding.json").write_text(
        json.dumps({"runs": results, "cosines": likeness, "growth": grown}, indent=1), encoding="utf-8"
    )


def _compare(experiment: Path, repeats: int, work: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {OURS: [], THEIRS_DISTINCT: []}
    if experiment.parent.name == "products":  # four of five of whose texts occur more than once
        found[THEIRS] = []
    for repeat in range(repeats):
        for who, runs in found.items():
            runs.append(_run(who, experiment, work))
            print(f"{experiment.parent.name}, run {repeat + 1}: {who}: {runs[-1]}", flush=True)
    return found


def _run(who: str, experiment: Path, work: Path) -> dict[str, Any]:
    """One contestant once, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        command = [sys.executable, "-m", "benchmarks.embedding_run", who, str(experiment), folder]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        result = json.loads(done.stdout.splitlines()[-1])
        if who == OURS:
            _keep(Path(folder), work / f"{experiment.parent.name}-ours.npy", experiment)
        else:
            np.save(work / f"{experiment.parent.name}-theirs.npy", np.load(Path(folder) / "vectors.npy"))
    return result


def _keep(store: Path, path: Path, experiment: Path) -> None:
    """Our vector of each key with a text, for the cosine to theirs."""
    held = open_store(store / "item")
    order = pc.sort_indices(held.keys).to_numpy()
    np.save(path, held.vectors.numpy()[held.row_of_key[order]].astype(np.float32))


def _rows(name: str, runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    seconds = {who: np.array([run["seconds"] for run in of_who]) for who, of_who in runs.items()}
    lines = []
    for who, of_who in runs.items():
        rates = of_who[0]["distinct"] / seconds[who]
        ratios = seconds[who] / seconds[OURS]  # run by run: neighbours in time
        lines.append(
            f"| {name} | {who} | {of_who[0]['texts']:,} | {of_who[0]['distinct']:,} | {np.median(rates):,.0f} "
            f"| {rates.min():,.0f}–{rates.max():,.0f} | {np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f}) "
            f"| {max(run['peak_mb'] for run in of_who):,.0f} |"
        )
    return lines


def _grow(rows: int, work: Path) -> dict[str, Any]:
    """Peak memory of embedding ``rows`` distinct texts of 4 to 12 tokens."""
    folder = work / f"growth-{rows}"
    folder.mkdir(parents=True, exist_ok=True)
    titles = [f"part {n}" + " in steel" * (n % 5) for n in range(rows)]
    pq.write_table(pa.table({"id": range(rows), "title": titles}), folder / "items.parquet")
    experiment = item_experiment(folder, "id", "{title}", folder / "items.parquet")
    with tempfile.TemporaryDirectory(dir=work) as store:
        command = [sys.executable, "-m", "benchmarks.embedding_run", OURS, str(experiment), store]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{rows:,} texts: {result}", flush=True)
    return result


def _completejourney(source: Path, work: Path) -> Path:
    folder = work / "completejourney"
    if not (folder / "experiment.yaml").exists():
        import_completejourney(source, folder, 2026)
    item = load_experiment(folder, kinds=KINDS).entities.item
    assert item.catalog is not None
    assert item.text is not None
    return item_experiment(work / "products", item.catalog.key, item.text, Path(item.catalog.path).absolute())


def _amazon_beauty(items: Path, work: Path) -> Path:
    return item_experiment(work / "beauty", "item_id", "{title}", items.absolute())


def item_experiment(folder: Path, key: str, template: str, catalog: Path) -> Path:
    """The file of an experiment with an item catalog and as little else as it may have."""
    folder.mkdir(parents=True, exist_ok=True)
    raw = {
        "name": "embedding",
        "entities": {
            "user": {"id": "user"},
            "item": {"id": "item", "catalog": {"path": str(catalog), "key": key}, "text": template},
        },
        "domains": {
            "d": {"kind": "recommendation", "events": {"train": "none"}, "tasks": {"click": {"label": "click"}}}
        },
        "text": {"encoder": "minilm"},
    }
    experiment_type(KINDS).model_validate(raw)
    path = folder / "experiment.yaml"
    path.write_text(json.dumps(raw), encoding="utf-8")
    return path


def _section(
    lines: list[str], likeness: dict[str, dict[str, float]], grown: dict[int, dict[str, Any]], repeats: int
) -> str:
    text = f"""## Text encoding

    python -m benchmarks.embedding --source ../shared/data --repeats {repeats}

{calibration()}
all-MiniLM-L6-v2, medians of {repeats} runs that took turns; distinct texts per second for all, however many were given.
sentence-transformers is its `encode()` with defaults, timed without loading; foundrank is the whole job.

| texts | | given | distinct | distinct texts/s | range | time ÷ foundrank's, run by run | peak MB |
| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |
""" + "\n".join(lines)
    text += "\n\nCosine of foundrank's float16 vectors to sentence-transformers' float32 ones: " + "; ".join(
        f"{name} at least {of['min']:.5f}, mean {of['mean']:.5f}" for name, of in likeness.items()
    )
    if grown:
        text += "\n\nMemory against rows, short texts:\n\n| distinct texts embedded | peak MB |\n| ---: | ---: |\n"
        text += "\n".join(f"| {rows:,} | {run['peak_mb']:,.0f} |" for rows, run in grown.items())
    return text


if __name__ == "__main__":
    typer.run(embedding)
