"""A training whose dense part is one graph, on several ranks: what is learnt is what the plain one learns."""

import numpy as np
import pytest
import torch

from foundrank.data.config.experiment import Experiment
from foundrank.data.errors import UserError
from foundrank.dist.ranks.runtime import Runtime
from foundrank.model.layers import fast

from .harness import run_ranks
from .rank_work import Trained, train_steps, whole

STEPS = 5


def train_as_on_gpus(runtime: Runtime, experiment: Experiment) -> tuple[Trained, int]:
    """Steps in the form for GPUs, without what compiles for these; and how many graphs there were."""
    made = []

    def count(graph: torch.fx.GraphModule, inputs: object) -> object:
        made.append(graph)
        return graph.forward

    fast.kind_of = lambda x: "cuda"
    plainly = torch.compile
    torch.compile = lambda step, mode, **options: plainly(step, backend=count, **options)  # type: ignore[assignment]
    return train_steps(runtime, experiment, STEPS), len(made)


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_is_learnt_is_what_the_plain_one_learns(small, ranks):
    settings = ("model.gate=domain_gate", "training.sharding=row_wise", "model.dropout=0.0", "model.id_dropout=0.0")
    settings += ("model.domain_width=1024",)  # more than the megabyte after which gradients of several ranks are summed
    plain = run_ranks(train_as_on_gpus, ranks, small(*settings))
    compiled = run_ranks(train_as_on_gpus, ranks, small(*settings, "training.compile=true"))
    assert [graphs for _, graphs in plain] == [0] * ranks
    assert [graphs for _, graphs in compiled] == [1] * ranks  # whatever the rows of a batch
    for (wanted, _), (found, _) in zip(plain, compiled, strict=True):
        assert sum(value.nbytes for value in wanted.dense.values()) > 2 * 2**20
        np.testing.assert_allclose(found.losses, wanted.losses, rtol=1e-4)
        for one, other in zip(found.logits, wanted.logits, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
        for name, value in wanted.dense.items():
            np.testing.assert_allclose(found.dense[name], value, rtol=1e-2, atol=1e-3, err_msg=name)
    tables, again = (whole([rank.tables for rank, _ in each]) for each in (plain, compiled))
    for name, table in tables.items():
        np.testing.assert_allclose(again[name], table, rtol=1e-2, atol=1e-3, err_msg=name)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("model.history.encoder=sasrec", "model.history.encoder"),
        ("domains.shop_search.tasks.click.list_loss=softmax", "a list_loss"),
    ],
)
def test_what_changes_its_shape_with_the_batch_is_refused(small, setting, named):
    with pytest.raises(UserError, match=rf"training\.compile: is true, and what {named} computes changes its shape"):
        small(setting, "training.compile=true")
