"""What the text vectors know: nearest neighbours to look at, and how often they are of the same product type.

    python -m benchmarks.text_neighbours --source FOLDER

FOLDER holds the data sets ``completejourney``, ``movietweetings``, ``amazon_cellphones_search`` and ``amazon_beauty``.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.compute as pc
import torch
import typer
from numpy.typing import NDArray
from rich.console import Console

from foundrank.data.catalogs.catalog import read_catalog
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import TEXT
from foundrank.data.content_kinds.content import Embedded
from foundrank.data.contents.content_store import open_store
from foundrank.data.sources.amazon_search import import_amazon_search
from foundrank.data.sources.completejourney import import_completejourney
from foundrank.data.sources.movietweetings import import_movietweetings
from foundrank.dist.embed.embed import embed
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.kinds import KINDS

from .embedding import item_experiment

IMPORTERS = {
    "completejourney": (import_completejourney, "completejourney"),
    "movietweetings": (import_movietweetings, "movietweetings"),
    "amazon-search": (import_amazon_search, "amazon_cellphones_search"),
}
SHOWN, NEIGHBOURS = 4, 3
SAMPLED = 5000


def text_neighbours(
    source: Annotated[Path, typer.Option(help="folder of the data sets")],
    work: Annotated[Path, typer.Option(help="folder for catalogs and stores")] = Path("runs/text_neighbours"),
    out: Annotated[Path, typer.Option(help="Markdown file to put the section into")] = Path("docs/results/results.md"),
    seed: Annotated[int, typer.Option(min=0, help="of the items shown and sampled")] = 2026,
) -> None:
    """Embeds the items of every data set and writes the section."""
    folders: dict[str, Path] = {}
    for name, (importer, folder) in IMPORTERS.items():
        folders[name] = work / name
        if not (work / name / "experiment.yaml").exists():
            importer(source / folder, work / name, seed)
    beauty = source / "amazon_beauty" / "items.parquet"
    folders["amazon_beauty"] = item_experiment(work / "amazon_beauty", "item_id", "{title}", beauty.absolute())
    lines = []
    for name, path in folders.items():
        texts, vectors, _ = embedded(load_experiment(path, kinds=KINDS), None)
        for shown in np.random.default_rng(seed).choice(len(texts), SHOWN, replace=False):
            near = nearest(vectors, np.array([shown]), NEIGHBOURS)[0]
            cells = [texts[shown], *(f"{texts[n]} ({vectors[n] @ vectors[shown]:.2f})" for n in near)]
            lines.append(f"| {name} | " + " | ".join(cell.replace("|", "/")[:90] for cell in cells) + " |")
    agreements = {
        kind: type_agreement(load_experiment(folders["completejourney"], [f"text.vectors={kind}"], kinds=KINDS), seed)
        for kind in ("llm", "random")
    }
    write_section(out, "text neighbours", section(lines, agreements))


def embedded(experiment: Experiment, column: str | None) -> tuple[list[str], NDArray[np.float32], list]:
    """The distinct texts of the items, their vectors ``[N, D]``, and a catalog column of the first item of each."""
    item = experiment.entities.item
    content = item.every_content()[TEXT]
    assert isinstance(content, Embedded)
    assert item.catalog is not None
    folder = embed(experiment, Runtime(0, 1, torch.device("cpu")), Console())["item"]
    store = open_store(folder)
    columns = [*content.columns, *([column] if column else [])]
    table = read_catalog("item", item, columns)
    texts = content.inputs(table)
    worded = texts.is_valid()
    texts, table = texts.filter(worded), table.filter(worded)
    at = pc.index_in(table[item.catalog.key].combine_chunks(), value_set=store.keys).to_numpy()
    _, first = np.unique(store.row_of_key[at], return_index=True)
    first = np.sort(first)
    values = table[column].take(first).to_pylist() if column else []
    return texts.take(first).to_pylist(), store.vectors.float().numpy()[store.row_of_key[at[first]]], values


def nearest(vectors: NDArray[np.float32], queries: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """``[Q, k]`` rows with the largest inner products with each query row, itself left out; nearest first."""
    scores = vectors[queries] @ vectors.T
    scores[np.arange(len(queries)), queries] = -np.inf
    found = np.argpartition(-scores, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(scores, found, 1), axis=1)
    return np.take_along_axis(found, order, 1)


def type_agreement(experiment: Experiment, seed: int, k: int = 10) -> float:
    """Share of the k nearest distinct texts whose product type is that of the text; over a sample of texts."""
    _, vectors, types = embedded(experiment, "product_type")
    types = np.unique([str(value) for value in types], return_inverse=True)[1]
    sample = np.random.default_rng(seed).choice(len(vectors), min(SAMPLED, len(vectors)), replace=False)
    same = [
        types[nearest(vectors, part, k)] == types[part][:, None] for part in np.array_split(sample, len(sample) // 500)
    ]
    return float(np.concatenate(same).mean())


def section(lines: list[str], agreements: dict[str, float]) -> str:
    """The Markdown of both results."""
    return f"""### What the text vectors know

    python -m benchmarks.text_neighbours --source ../shared/data

Items picked at random and their nearest neighbours among the distinct texts, with the cosine; all-MiniLM-L6-v2.

| data set | text | nearest | second | third |
| --- | --- | --- | --- | --- |
{chr(10).join(lines)}

completejourney, share of a text's 10 nearest distinct texts that have its `product_type` ({SAMPLED:,} texts sampled):
**{agreements["llm"]:.3f}** with MiniLM, {agreements["random"]:.4f} with random vectors (`text.vectors: random`)."""


if __name__ == "__main__":
    typer.run(text_neighbours)
