"""The standard workload as a foundrank experiment: its files split by domain, and two experiments over them."""

import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from .plain_torchrec import EXPERT_WIDTHS, EXPERTS, LABELS, LISTS, TOWER_WIDTHS, VECTOR, WIDTH, cardinalities_of

BATCH = 4096
PLAIN = {
    "gate": "none",
    "domain_width": 0,
    "alignment": "none",
    "shared_head": True,
    "width": WIDTH,
}
FULL = {"gate": "domain_gate", "domain_width": 128, "alignment": "js", "width": 64, "id_dropout": 0.0}


def write_workload(source: Path, folder: Path) -> None:
    """Splits the workload's files by domain and writes ``plain.yaml`` and ``full.yaml``, once.

    Args:
        source: what the workload generator wrote.
        folder: where to put it; replaced if it is unfinished.
    """
    if (folder / "full.yaml").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    domains = cardinalities_of(source)["domain"]
    for split in ("train", "eval"):
        for path in sorted((source / split).glob("*.parquet")):
            table = pq.read_table(path)
            for domain in range(domains):
                part = table.filter(pc.equal(table["domain"], domain)).drop_columns("domain")
                target = folder / split / f"d{domain}" / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                pq.write_table(
                    part, target, compression="zstd", row_group_size=pq.read_metadata(path).row_group(0).num_rows
                )
    for name, model in (("plain", PLAIN), ("full", FULL)):
        (folder / f"{name}.yaml").write_text(
            yaml.safe_dump(experiment_of(source, domains, model), sort_keys=False), encoding="utf-8"
        )


def experiment_of(source: Path, domains: int, model: dict[str, Any]) -> dict[str, Any]:
    """The experiment as YAML would hold it, of a source with some domains and the settings of its model."""
    singles = [key for key in cardinalities_of(source) if key.startswith("c")]
    user, item = singles[-2:]
    context: dict[str, Any] = {key: {"kind": "categorical"} for key in singles[:-2]}
    context |= {key: {"kind": "list", "max_length": 50} for key in LISTS}
    context |= {f"d{k}": {"kind": "dense"} for k in range(8)}
    context |= {VECTOR: {"kind": "vector", "size": 64}}
    tasks = {label: {"label": label} for label in LABELS}
    return {
        "name": "workload",
        "entities": {"user": {"id": user}, "item": {"id": item}},
        "context": context,
        "domains": {
            f"d{domain}": {
                "kind": "recommendation",
                "events": {"train": f"train/d{domain}/*.parquet", "test": f"eval/d{domain}/*.parquet"},
                "tasks": tasks,
            }
            for domain in range(domains)
        },
        "model": {
            "embedding_dim": WIDTH,
            "experts": EXPERTS,
            "expert_widths": list(EXPERT_WIDTHS),
            "tower_widths": list(TOWER_WIDTHS),
            "dropout": 0.0,
        }
        | model,
        "training": {"epochs": 1, "batch_size": BATCH, "keep_best": False},
    }
