"""Two ranks with sharded tables compute what one process without TorchRec's sharding computes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchrec.optim import RowWiseAdagrad

from foundrank.data.batch.batch import Batch
from foundrank.data.config.experiment import Experiment
from foundrank.data.schema.layout import Layout
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.sharding.shard import shard
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.representation.conditioning import condition, fit_conditioning
from foundrank.model.representation.embedding_tables import materialise

from .harness import run_ranks
from .rank_work import Trained, batches_of, dense_of, make_encoder, tables_of, train_steps, whole

RANKS, STEPS = 2, 6
CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-5}


def reference(experiment: Experiment) -> Trained:
    """The same steps in this process: the loss is the mean of the ranks' losses, the optimizers see dense gradients."""
    training, encoder = experiment.training, make_encoder(experiment)
    torch.manual_seed(experiment.seed)
    model = Foundation(encoder.layout, experiment.model, training.batch_size)
    materialise(model, experiment.seed)
    condition(model, fit_conditioning(encoder.contents, encoder.layout, whiten=True))
    bags: Any = model.embeddings.embedding_bags
    tables = {name: bag.weight for name, bag in bags.items()}
    # Each column shard keeps a row-wise moment of its own, so here each half of the columns is a parameter.
    halves = 2 if training.sharding == "column_wise" else 1
    parts = {name: [nn.Parameter(p) for p in table.data.chunk(halves, 1)] for name, table in tables.items()}
    sparse = RowWiseAdagrad([part for of_table in parts.values() for part in of_table], eps=1e-8)
    dense = list(model.dense.parameters())
    adamw = torch.optim.AdamW(dense, weight_decay=training.optimizer.weight_decay)
    losses, logits = [], []
    streams = [batches_of(encoder, rank, RANKS) for rank in range(RANKS)]
    for step in range(STEPS):
        share = training.schedule.share(step / STEPS)
        batches = [next(stream) for stream in streams]
        outcomes = [model(batch) for batch in batches]
        model.zero_grad()
        torch.stack([loss for loss, _ in outcomes]).mean().backward()
        for name, table in tables.items():
            whole_gradient = torch.zeros_like(table) if table.grad is None else table.grad  # where no aspect is of ids
            for part, gradient in zip(parts[name], whole_gradient.chunk(halves, 1), strict=True):
                part.grad = gradient
        nn.utils.clip_grad_norm_(dense, training.gradient_clip)
        adamw.param_groups[0]["lr"] = training.learning_rate * share
        sparse.param_groups[0]["lr"] = training.sparse_learning_rate * share
        adamw.step()
        for name, rows in _looked_up(encoder.layout, batches).items():
            for part in parts[name]:
                part.data[rows] *= 1 - training.sparse_learning_rate * share * training.table_decay
        sparse.step()
        losses += [loss.item() for loss, _ in outcomes]
        logits += [outputs.logits.numpy() for _, outputs in outcomes]
    values = {name: [((0, 0), table.detach().numpy())] for name, table in tables.items()}
    return Trained(losses, logits, values, {}, {f"dense.{n}": v.numpy() for n, v in model.dense.state_dict().items()})


def _looked_up(layout: Layout, batches: Sequence[Batch]) -> dict[str, torch.Tensor]:
    """Table -> the rows of it that any rank looks up."""
    ids = {key: torch.cat([batch.sparse[key].values() for batch in batches]) for key in layout.keys}
    return {
        table: torch.cat([ids[key] for key in layout.keys if layout.table_of[key] == table]).unique()
        for table in layout.tables
    }


LIST_LOSSES = [
    "domains.shop_search.tasks.click.list_loss={kind: softmax, weight: 2}",
    "domains.shop_feed.tasks.click.list_loss=jrc",
    "domains.shop_feed.tasks.conversion.list_loss={kind: pairwise, lambda_weights: true}",
    "domains.video_feed.tasks.click.list_loss=pairwise",
]
DECAY = "training.table_decay=5"
WEIGHTED = "entities.item.features.tags={kind: weighted_list, weights: tag_weights, max_length: 4}"
HISTORIES = {
    "table_wise": ["model.history={encoder: bert4rec, dropout: 0}", "model.next_item={positions: all, mask_share: 0}"],
    "column_wise": ["model.history={encoder: hstu, dropout: 0}", "model.next_item={loss: gbce, negatives: 40}"],
    "row_wise": [
        "model.history={encoder: sasrec, dropout: 0}",
        "model.next_item={loss: softmax, positions: all}",
        "entities.user.history.domains=history_domains",
        "model.history.features=[brand, rating]",
    ],
    "auto": [
        "model.history={encoder: din, decoupled: true}",
        "context.position.bias=true",
        "model.bias_dropout=1e-9",
        WEIGHTED,
    ],
}


WITHIN = {
    "table_wise": [
        "model.history={encoder: hstu, dropout: 0, prefix: [user, query], prefix_dropout: 0}",
        "model.next_item={candidates: domain, negatives: 40}",
    ],
    "row_wise": [
        "model.history={encoder: sasrec, dropout: 0}",
        "model.next_item={loss: softmax, positions: all, candidates: domain}",
    ],
}


OF_TASKS = [
    f"domains.shop_search.tasks.when={{kind: ordinal, label: hour, levels: {list(range(24))}}}",
    "domains.shop_search.tasks.spend={kind: value, label: hour}",
    "domains.video_feed.tasks.spend={kind: value, label: position, weight: 0.5}",
    "domains.video_feed.tasks.number={kind: count, label: position}",
    "domains.shop_feed.tasks.place={kind: regression, label: position}",
    "domains.shop_feed.tasks.rate={kind: regression, label: p_click, transform: log1p, loss: huber}",
    "domains.shop_feed.tasks.focused={label: click, loss: focal}",
]


@pytest.mark.parametrize(
    ("sharding", "further"),
    [
        *(
            ("table_wise", LIST_LOSSES),
            ("column_wise", OF_TASKS),
            ("row_wise", []),
            *HISTORIES.items(),
            *WITHIN.items(),
        ),
        *((sharding, [DECAY]) for sharding in ("table_wise", "column_wise", "row_wise")),
        ("auto", [DECAY, WEIGHTED]),  # these weights are for FBGEMM's kernels
    ],
)
def test_training_equals_the_unsharded_reference(small, sharding: str, further: list[str]):
    # Row-wise Adagrad blows up the last digits of a row whose gradients are all next to nothing; and AdamW those of the constant
    # of JRC's second logit, on which no loss depends.
    close = CLOSE | {"atol": 5e-4 if further in (LIST_LOSSES, *HISTORIES.values(), *WITHIN.values()) else CLOSE["atol"]}
    experiment = small(f"training.sharding={sharding}", "training.gradient_clip=0.05", *further)  # small enough to clip
    wanted, ranks = reference(experiment), run_ranks(train_steps, RANKS, experiment, STEPS)

    losses = [rank.losses[step] for step in range(STEPS) for rank in ranks]
    np.testing.assert_allclose(losses, wanted.losses, **close)
    logits = [rank.logits[step] for step in range(STEPS) for rank in ranks]
    for given, expected in zip(logits, wanted.logits, strict=True):
        np.testing.assert_allclose(given, expected, **close)
    tables, expected = whole([rank.tables for rank in ranks]), whole([wanted.tables])
    assert tables.keys() == expected.keys()
    for name, table in tables.items():
        np.testing.assert_allclose(table, expected[name], **close, err_msg=name)
    for rank in ranks:
        assert rank.dense.keys() == wanted.dense.keys()
        for name, value in rank.dense.items():
            np.testing.assert_allclose(value, wanted.dense[name], **close, err_msg=name)
    assert any(len(table) % RANKS for table in tables.values())  # rows need not divide by the number of ranks
    held = sum(any(len(pieces) for pieces in rank.tables.values()) for rank in ranks)
    assert held == RANKS  # both ranks hold something, or nothing was shown


def initial_weights(runtime: Runtime, experiment: Experiment) -> tuple[dict, dict]:
    sharded = shard(make_encoder(experiment).layout, experiment, runtime)
    return tables_of(sharded), dense_of(sharded)


@pytest.mark.parametrize("sharding", ["table_wise", "row_wise"])
def test_float16_tables_learn_as_float32_ones_but_for_rounding(small, sharding: str):
    settings = [f"training.sharding={sharding}", "training.sparse_learning_rate=0.05"]
    wanted = run_ranks(train_steps, RANKS, small(*settings), STEPS)
    ranks = run_ranks(train_steps, RANKS, small(*settings, "training.table_precision=fp16"), STEPS)
    again = run_ranks(train_steps, RANKS, small(*settings, "training.table_precision=fp16"), STEPS)
    for rank, exact, repeated in zip(ranks, wanted, again, strict=True):
        assert rank.losses == repeated.losses
        np.testing.assert_allclose(rank.losses, exact.losses, rtol=2e-3)
    tables, expected = whole([rank.tables for rank in ranks]), whole([rank.tables for rank in wanted])
    for name, table in tables.items():
        assert np.array_equal(table, table.astype(np.float16))

        # Row-wise Adagrad blows up the last digits of a row whose gradients are all next to nothing.
        assert np.abs(table - expected[name]).mean() < 1e-3, name


def test_initial_weights_are_the_same_for_every_plan_and_number_of_ranks(small):
    plans = [(1, "auto"), *((RANKS, s) for s in ("auto", "table_wise", "column_wise", "row_wise"))]
    seen = []
    for world_size, sharding in plans:
        ranks = run_ranks(initial_weights, world_size, small(f"training.sharding={sharding}"))
        seen += [whole([tables for tables, _ in ranks]) | dense for _, dense in ranks]
    for other in seen[1:]:
        assert other.keys() == seen[0].keys()
        for name, value in other.items():
            np.testing.assert_array_equal(value, seen[0][name], err_msg=name)


def test_the_same_seed_gives_the_same_losses_to_the_bit(small):
    dropping = ("model.dropout=0.2", "model.id_dropout=0.2", "model.hide_rare_items=3")
    first, second, other = (
        [rank.losses for rank in run_ranks(train_steps, RANKS, small(*dropping, f"seed={seed}"), STEPS)]
        for seed in (1, 1, 2)
    )
    assert first == second
    assert first != other
    assert first[0] != first[1]
