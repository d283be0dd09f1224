"""One run of `benchmarks.embedding` in a process of its own; prints its figures as one line of JSON."""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from rich.console import Console

from foundrank.data.catalogs.catalog import read_catalog
from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import TEXT, Stored
from foundrank.data.contents.content_store import open_store
from foundrank.dist.embed.embed import embed
from foundrank.dist.ranks.runtime import Runtime
from foundrank.model.contents.text_encoder_loading import model_source
from foundrank.model.kinds import KINDS


def ours(path: str, out: Path) -> dict[str, float]:
    """The whole embed job."""
    import transformers  # noqa: F401  loading libraries is no part of either's time

    experiment = load_experiment(path, [f"text.store={out}"], kinds=KINDS)
    started = time.perf_counter()
    embed(experiment, Runtime(0, 1, torch.device("cpu")), Console(quiet=True))
    figures = {"seconds": time.perf_counter() - started, "peak_mb": peak_mb()}
    held = open_store(out / "item")  # after the peak is read: readers keep the index in memory, the job does not
    return figures | {"texts": len(held.keys), "distinct": len(held.vectors)}


def theirs(path: str, out: Path, distinct_only: bool) -> dict[str, float]:
    """``encode()`` of sentence-transformers, with its defaults."""
    from sentence_transformers import SentenceTransformer

    experiment = load_experiment(path, kinds=KINDS)
    item = experiment.entities.item
    content = experiment.entities.embedded()[Stored("item", TEXT)]
    assert item.catalog is not None
    table = read_catalog("item", item, content.columns)
    rendered = content.inputs(table)
    worded = rendered.is_valid()
    keys, texts = pa.concat_arrays(table[item.catalog.key].chunks).filter(worded), rendered.filter(worded)
    encoded = texts.dictionary_encode()
    given = (encoded.dictionary if distinct_only else texts).to_pylist()
    model = SentenceTransformer(model_source(experiment.text), device="cpu")
    started = time.perf_counter()
    vectors = model.encode(given, show_progress_bar=False)
    figures = {"seconds": time.perf_counter() - started, "peak_mb": peak_mb()}
    of_key = vectors[encoded.indices.to_numpy()] if distinct_only else vectors
    np.save(out / "vectors.npy", of_key[pc.sort_indices(keys).to_numpy()])
    return figures | {"texts": len(given), "distinct": len(encoded.dictionary)}


def peak_mb() -> float:
    """Most memory this process has held, in MB. Not getrusage: it counts what the parent had when it forked this one."""
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(peak) / 1024


def cosines(first: Path, second: Path) -> dict[str, float]:
    """Smallest and mean cosine of two arrays, row by row."""
    a, b = np.load(first).astype(np.float64), np.load(second).astype(np.float64)
    cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
    return {"min": float(cosine.min()), "mean": float(cosine.mean())}


if __name__ == "__main__":
    who, experiment_path, folder = sys.argv[1:]
    if who == "foundrank":
        figures = ours(experiment_path, Path(folder))
    else:
        figures = theirs(experiment_path, Path(folder), "distinct" in who)
    print(json.dumps(figures))
