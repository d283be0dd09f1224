"""A small layout and random batches of it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torchrec import KeyedJaggedTensor

from foundrank.data.batch.batch import Batch
from foundrank.data.config.experiment import Experiment
from foundrank.data.config.kinds import experiment_type, with_kinds
from foundrank.data.config.sections.model import ModelConfig
from foundrank.data.schema.layout import Layout, make_layout
from foundrank.model.kinds import KINDS

TEXT, EMBEDDING = 12, 8


def small_experiment(context: dict[str, Any] | None = None, domains: int = 3) -> Experiment:
    """Three domains, the first a search one; ``context`` describes features of the event."""
    events = {"train": "x.parquet"}
    surfaces = {
        f"d{i}": {"kind": "recommendation", "events": events, "tasks": {"click": {"label": "click"}}}
        for i in range(domains)
    }
    surfaces["d0"] = {
        "kind": "search",
        "events": events,
        "tasks": {"click": {"label": "click"}, "buy": {"label": "buy", "weight": 2.0}},
        "features": {
            "shelf": {"kind": "categorical", "entity": "item"},
            "hour": {"kind": "categorical"},
            "depth": {"kind": "dense"},
        },
    }
    return experiment_type(KINDS).model_validate(
        {
            "name": "small",
            "entities": {
                "user": {
                    "id": "user",
                    "history": {},
                    "features": {"age": {"kind": "dense"}, "likes": {"kind": "list"}},
                },
                "query": {"id": "query", "catalog": {"path": "q.parquet", "key": "query"}, "text": "{query}"},
                "item": {
                    "id": "item",
                    "catalog": {"path": "i.parquet", "key": "item"},
                    "text": "{title}",
                    "features": {"image": {"kind": "vector", "size": 5, "source": "events"}},
                },
            },
            "context": context or {},
            "domains": surfaces,
        }
    )


@pytest.fixture(scope="session")
def layout() -> Layout:
    """Three domains (the first a search one with two tasks), every kind of aspect and feature."""
    return _layout(small_experiment())


@pytest.fixture(scope="session")
def other_layout() -> Layout:
    """``d1`` of that layout and a new domain, ``kids``; without the features of ``d0``, with a new one of the context."""
    raw = small_experiment().model_dump(mode="json", exclude_none=True)
    raw["domains"] = {"d1": raw["domains"]["d1"], "kids": raw["domains"]["d2"]}
    raw["context"] = {"weather": {"kind": "dense"}}
    return _layout(experiment_type(KINDS).model_validate(raw))


def _layout(experiment: Experiment) -> Layout:
    names = ["id_user", "id_query", "id_item", "feature_likes", "feature_shelf", "feature_hour"]
    every = make_layout(experiment, dict.fromkeys(names, 20), {"query": TEXT, "item": TEXT})
    return replace(every, tables={name: 20 for name in names if name in every.table_of.values()})


@pytest.fixture(scope="session")
def config():
    """A small ``ModelConfig``, with changes; no dropout unless asked for."""

    def make(head: str = "mmoe", tower_widths: tuple[int, ...] = (4,), **changes) -> ModelConfig:
        of_head = {"head": head, "widths": (16, 8), "tower_widths": tower_widths, "dropout": 0.0}
        of_head |= {"experts": 3} if head in ("mmoe", "ple") else {}
        small = {
            "embedding_dim": EMBEDDING,
            "width": 8,
            "domain_width": 16,
            "head": of_head,
            "id_dropout": 0.0,
            "hide_rare_items": 0.0,
        }
        return with_kinds(ModelConfig, KINDS).model_validate(small | changes)

    return make


@pytest.fixture(scope="session")
def make_batch():
    """A random batch of a layout with the given rows per domain, ``padding`` empty bags per key after them."""

    def make(layout: Layout, domain_lengths: list[int], seed: int = 0, padding: int = 0, absent: bool = False) -> Batch:
        g = torch.Generator().manual_seed(seed)
        rows, keys = sum(domain_lengths), len(layout.keys)
        search = torch.tensor(layout.search)
        domains = torch.repeat_interleave(torch.arange(len(domain_lengths)), torch.tensor(domain_lengths))
        searched = search[domains]

        def some(*shape: int, share: float = 0.7) -> torch.Tensor:
            return (torch.rand(*shape, generator=g) < share) & (not absent)

        ids, bags = len(layout.entities), torch.randint(0, 4, (keys, rows), generator=g) * (not absent)
        lengths = torch.where(torch.arange(keys)[:, None] < layout.singles, some(keys, rows).long(), bags)
        query = layout.entities.index("query")
        lengths[query] *= searched
        lengths = torch.cat([lengths, torch.zeros(keys, padding, dtype=torch.int64)], 1)
        values = torch.randint(0, 20, (int(lengths.sum()),), generator=g)
        counts = torch.randint(0, 9, (rows, ids), generator=g).float()
        counts = torch.where(lengths[:ids, :rows].T > 0, counts, -1.0)
        present = {name: some(rows) for name in layout.vectors}
        if "text_query" in present:
            present["text_query"] &= searched
        has_task = torch.tensor(layout.task_weights)[domains] > 0
        mask = some(rows, len(layout.tasks), share=0.9) & has_task
        return Batch(
            sparse=KeyedJaggedTensor.from_lengths_sync(list(layout.keys), values, lengths.flatten()),
            dense=torch.randn(rows, len(layout.dense), generator=g),
            vectors={
                name: torch.randn(rows, size, generator=g).half() * present[name][:, None]
                for name, size in layout.vectors.items()
            },
            vector_present=present,
            id_counts=counts,
            labels=(torch.rand(mask.shape, generator=g) < 0.5).float() * mask,
            label_mask=mask,
            domains=domains,
            domain_lengths=list(domain_lengths),
            host={"row": np.arange(rows)},
        )

    return make
