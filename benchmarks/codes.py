"""Semantic ids on Amazon Beauty, leave one out, against all items, into docs/results/results.md.

    python -m benchmarks.codes --source DATA/amazon_beauty --seeds 3

Trains every arm with several seeds, two at a time on a thread each, and measures it, past items left out and kept: the checkpoint
that is best on validation, or, as searches take long, the last one of what finds items by their codes. Then the same without a tenth of
the items in training. What is done in WORK is kept; run again, it goes on. `--only 'tree, seed [23]'` takes some of it, and the rest of
the table stays as the file of figures has it, where its settings are the same.
"""

import json
import re
import shutil
import statistics
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
import yaml

from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import open_store, store_folder
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.kinds import KINDS

from .jobs import Out, Source, Work, assigned, run_foundrank
from .machine import calibration
from .next_item import wilson
from .unseen_items import SHARE, without_items

AT_A_TIME, _ROWS, _FIRST = 2, 1024, 10
ATTRIBUTES = ("attribute_1", "attribute_2")
"""Columns of the catalog that hold the first of an item's attributes, from which codes are made by `columns`."""
CONTENTS: dict[str, dict[str, Any]] = {
    "codes": {"method": "rq_kmeans"},
    "codes_shared": {"method": "rq_kmeans", "unique": "shared"},
    "flat": {"method": "parallel", "levels": 32},
    "tree": {"method": "tree"},
    "columns": {"method": "columns", "columns": list(ATTRIBUTES), "digits": 2},
    "random": {"method": "random"},
}
_NEXT = "model.next_item={{target: {0}, positions: all, label_smoothing: 0.1, {1}}}"
_STEPS = "training={{epochs: {0}, batch_size: {1}, learning_rate: {2}, gradient_clip: 20, keep_best: false}}"


def _follows(codes: str, aspects: str, epochs: int = 14, batch: int = 64, rate: float = 0.0015) -> tuple[str, ...]:
    """An arm that finds the next item code after code."""
    decoder = _NEXT.format(codes, "decoder: {kind: autoregressive}")
    return decoder, f"model.aspects=[{aspects}]", _STEPS.format(epochs, batch, rate)


def _at_once(more: str) -> tuple[str, ...]:
    """An arm that finds all codes of the next item at once."""
    decoder = _NEXT.format("flat", f"{more}decoder: parallel")
    return decoder, "model.aspects=[flat, text]", _STEPS.format(15, 128, 0.002)


ARMS: dict[str, tuple[str, ...]] = {
    "SASRec, ids": ("model.aspects=[id]",),
    "SASRec, ids and texts": ("model.aspects=[id, text]",),
    "SASRec, ids, 32 codes and texts": ("model.aspects=[id, flat, text]",),
    "vectors of 32 codes": ("model.aspects=[flat]",),
    "vectors of 32 codes, and texts": ("model.aspects=[flat, text]",),
    "vectors of 4 codes, and texts": ("model.aspects=[codes, text]",),
    "parallel, text codes": _at_once("in_batch: 1024, "),
    "parallel, text codes, each by itself": _at_once(""),
    "autoregressive, text codes, digit": _follows("codes", "codes, flat, text"),
    "autoregressive, text codes, shared": _follows("codes_shared", "codes_shared, flat, text"),
    "autoregressive, tree": _follows("tree", "tree", 8, 128, 0.002),
    "autoregressive, columns": _follows("columns", "columns", 8, 128, 0.002),
    "autoregressive, random codes": _follows("random", "random", 8, 128, 0.002),
}
"""Name -> what differs from the imported experiment."""
UNSEEN: dict[str, tuple[str, ...]] = {
    "SASRec, texts alone": ("model.aspects=[text]",),
    **{
        name: ARMS[name]
        for name in ARMS
        if name == "SASRec, ids and texts" or name.startswith("vectors of 32") or "text codes" in name
    },
}
"""Arms that are trained without some of the items as well, with one seed."""
METRICS = ("hr@10", "ndcg@10")
PROTOCOLS = {"left_out": "--no-repeat", "kept": "--repeat"}


def codes(
    source: Source,
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 3,
    only: Annotated[str, typer.Option(help="a pattern of arms and seeds  [default: all]")] = "",
    work: Work = Path("runs/codes"),
    out: Out = Path("docs/results/results.md"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path("docs/results/benchmarks/codes.json"),
) -> None:
    """Measures and writes the section."""
    data, fewer = work / "data", work / "data_without"
    if not (data / "text_store" / "item_random").is_dir():
        _prepare(source, data)
    if not (marker := fewer / "tokenized").is_file():
        shutil.rmtree(fewer, ignore_errors=True)
        without_items(data, fewer)
        run_foundrank("tokenize", fewer, "--rebuild")  # what is together in its training rows alone
        marker.touch()
    every = [*((data, arm) for arm in ARMS), *((fewer, arm) for arm in UNSEEN)]
    jobs = [(*job, seed) for seed in range(1, seeds + 1) for job in every if seed == 1 or job[0] == data]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        some = [job for job in jobs if re.search(only, f"{job[1]}, seed {job[2]}")]
        list(pool.map(lambda job: _measure(work, *job), some))
    before = json.loads(kept.read_text(encoding="utf-8"))["results"] if kept.is_file() else []
    found = [of for job in jobs if (of := _found(work, *job) or _measured_before(before, *job)) is not None]
    write = {"machine": calibration(), "results": found, "cosines": cosines(data)}
    kept.write_text(json.dumps(write, indent=1) + "\n", encoding="utf-8")
    write_section(out, "semantic ids", section(write))


def _prepare(source: Path, data: Path) -> None:
    """The imported data, its vectors, and codes of every kind."""
    shutil.rmtree(data, ignore_errors=True)
    run_foundrank("import", "amazon-beauty", source, data)
    path = data / "catalogs" / "items.parquet"
    items = pq.read_table(path)
    for place, name in enumerate(ATTRIBUTES):
        lists = items["attribute_ids"]
        there = pc.greater(pc.list_value_length(lists), place)
        padded = pc.if_else(there, lists, pa.scalar([-1] * len(ATTRIBUTES), lists.type))
        items = items.append_column(name, pc.if_else(there, pc.list_element(padded, place), None))
    pq.write_table(items, path)
    experiment = yaml.safe_load((data / "experiment.yaml").read_text(encoding="utf-8"))
    experiment["entities"]["item"]["contents"] = {name: {"codes": method} for name, method in CONTENTS.items()}
    (data / "experiment.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False), encoding="utf-8")
    run_foundrank("embed", data)
    run_foundrank("tokenize", data)


def _folder(work: Path, data: Path, arm: str, seed: int) -> Path:
    """Of a training; of another one where the arm's settings are others."""
    settings = zlib.crc32("; ".join(_changes(arm)).encode())
    return work / "runs" / data.name / f"{re.sub('[^a-z0-9]+', '_', arm.lower())}-{seed}-{settings:08x}"


def _changes(arm: str) -> tuple[str, ...]:
    return (UNSEEN | ARMS)[arm]


def _training(data: Path, arm: str, seed: int) -> dict[str, Any]:
    """What the figures are of."""
    return {"data": data.name, "arm": arm, "seed": seed, "changes": list(_changes(arm))}


def _measure(work: Path, data: Path, arm: str, seed: int) -> None:
    """Trains and evaluates, where that has not been done."""
    run = _folder(work, data, arm, seed)
    if (run / "evaluation_kept.json").is_file():
        return
    changes = assigned((*_changes(arm), f"seed={seed}"))
    run_foundrank("train", data, "--run-dir", run, "-p", 1, *changes, threads=1)
    for name, option in PROTOCOLS.items():
        run_foundrank("evaluate", run, "-p", 1, option, threads=1)
        shutil.copy(run / "evaluation.json", run / f"evaluation_{name}.json")
    result = _found(work, data, arm, seed)
    assert result is not None
    told = (f"{name} {result['left_out']['all'][name]:.4f}" for name in METRICS)
    print(f"{data.name}: {arm}, seed {seed}:", *told, flush=True)


def _found(work: Path, data: Path, arm: str, seed: int) -> dict[str, Any] | None:
    """The figures of one training; None where it has not been done."""
    run = _folder(work, data, arm, seed)
    if not (run / "evaluation_kept.json").is_file():
        return None
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    result = _training(data, arm, seed) | {key: info[key] for key in ("seconds", "parameters", "dense_parameters")}
    for name in PROTOCOLS:
        rows = json.loads((run / f"evaluation_{name}.json").read_text(encoding="utf-8"))["next_item"]
        result[name] = {row["slice"]: row for row in rows}
    return result


def _measured_before(results: Sequence[Mapping[str, Any]], data: Path, arm: str, seed: int) -> Mapping[str, Any] | None:
    """The figures of an earlier time, where the arm was what it is now."""
    wanted = _training(data, arm, seed).items()
    return next((one for one in results if wanted <= one.items()), None)


def cosines(data: Path) -> dict[str, dict[str, float]]:
    """What nobody has learned: items by the cosine of their titles with the newest past item's, or with the mean of all past ones'."""
    experiment = load_experiment(data, kinds=KINDS)
    store = open_store(store_folder(experiment, Stored("item", "text")))
    items = pq.read_table(data / "catalogs" / "items.parquet")["item_id"].to_numpy()
    place, vectors = (
        {item: at for at, item in enumerate(items.tolist())},
        np.zeros((len(items), store.size), np.float32),
    )
    vectors[[place[key] for key in store.keys.to_pylist()]] = store.vectors.numpy()[store.row_of_key]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    events = pq.read_table(data / "events" / "beauty" / "test")
    pasts = [[place[item] for item in past] for past in events["history"].to_pylist()]
    own = np.array([place[item] for item in events["item_id"].to_pylist()])
    found = {}
    for name, of in (
        ("newest past item", lambda past: vectors[past[-1]]),
        ("mean of past items", lambda past: vectors[past].mean(0)),
    ):
        ranks = []
        for start in range(0, len(pasts), _ROWS):
            some = pasts[start : start + _ROWS]
            scores = np.stack([of(past) for past in some]) @ vectors.T
            for row, past in enumerate(some):
                scores[row, past] = -np.inf
            ranks.append((scores >= scores[np.arange(len(some)), own[start : start + _ROWS], None]).sum(1) - 1)
        rank = np.concatenate(ranks)
        gains = np.where(rank < _FIRST, 1 / np.log2(rank + 2), 0)
        found[name] = {"hr@10": float((rank < _FIRST).mean()), "ndcg@10": float(gains.mean())}
    return found


def section(written: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    whole, unseen = (
        [one for one in written["results"] if (one["data"] == "data") == of_all] for of_all in (True, False)
    )
    lines = [
        "## amazon_beauty: semantic ids\n",
        "    python -m benchmarks.codes --source ../shared/data/amazon_beauty\n",
    ]
    if whole:
        lines += _whole(whole, written["machine"])
        for name, of in written["cosines"].items():
            lines.append(f"| cosine of titles, {name} | | {of['hr@10']:.4f} | {of['ndcg@10']:.4f} | | | |")
    if unseen:
        lines += ["", *_unseen(unseen)]
    return "\n".join(lines)


def _whole(results: Sequence[Mapping[str, Any]], machine: str) -> list[str]:
    row = results[0]["left_out"]["all"]
    lines = [
        f"Each of {row['rows']:,} users' last item among all {row['items']:,}. Where vectors are found, the one before chooses the epoch; where codes are, the last counts.",
        f"Means over seeds, and the least and the largest. {machine} Bytes are of weights in float32, the item table's included.\n",
        "| | seeds | HR@10 | NDCG@10 | past items kept: HR@10 | NDCG@10 | MB |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for arm in dict.fromkeys(one["arm"] for one in results):
        mine = [one for one in results if one["arm"] == arm]
        cells = [_spread([one[of]["all"][name] for one in mine]) for of in PROTOCOLS for name in METRICS]
        lines.append(f"| {arm} | {len(mine)} | {' | '.join(cells)} | {mine[0]['parameters'] * 4 / 1e6:.1f} |")
    popular = [f"{results[0][of]['all'][f'popularity_{name}']:.4f}" for of in PROTOCOLS for name in METRICS]
    return [*lines, f"| popularity | | {' | '.join(popular)} | |"]


def _unseen(results: Sequence[Mapping[str, Any]]) -> list[str]:
    row = results[0]["left_out"]["cold_items"]
    lines = [
        "### Semantic ids of items never seen in training\n",
        f"With {SHARE:.0%} of the items taken out of training: the {row['rows']:,} test users whose item is one of these, each among all",
        f"{row['items']:,} items. One seed, with 95 % intervals over users. Codebooks are fitted on the texts of the whole catalog.\n",
        "| | HR@10 | HR@20 | of seen items: HR@10 |",
        "| --- | ---: | ---: | ---: |",
    ]
    for one in results:
        of = one["left_out"]
        cells = [wilson(of["cold_items"][metric], row["rows"]) for metric in ("hr@10", "hr@20")]
        lines.append(f"| {one['arm']} | {' | '.join(cells)} | {of['warm_items']['hr@10']:.4f} |")
    return lines


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.4f}"
    return f"{statistics.fmean(values):.4f} ({min(values):.4f}–{max(values):.4f})"


if __name__ == "__main__":
    typer.run(codes)
