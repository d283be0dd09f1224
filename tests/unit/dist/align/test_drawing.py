"""Candidates that are drawn: as often as their scores say, without replacement, and by what is known of the row alone."""

from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from foundrank.data.arrow.ids import mix
from foundrank.dist.align.finding import drawn_order
from foundrank.dist.align.request import Grouping
from tests.coded_world import opened, write_world

USERS = 20_000


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    path: Path = write_world(tmp_path_factory.mktemp("drawing"))
    return opened(path, "model.next_item={loss: softmax}")


def users(history: int = 0) -> pa.Table:
    past = [[history, user % 7] for user in range(USERS)]
    return pa.table({"user": np.arange(USERS), "history": pa.array(past, pa.list_(pa.int64()))})


def test_items_are_drawn_in_proportion_to_the_exponential_of_their_scores(experiment):
    scores = torch.tensor([2.0, 1.0, 0.0, -1.0, float("-inf")]).expand(USERS, -1)
    at, keys = torch.arange(5).expand(USERS, -1), mix(np.arange(5, dtype=np.uint64))
    draw = partial(drawn_order, keys=keys, scale=0.5, table=users(), scores=scores, at=at)
    order = draw(Grouping(2, 5, 0.5), experiment)
    weights = torch.softmax(scores[0, :4] * 0.5 / 0.5, 0)
    first = torch.bincount(order[:, 0], minlength=5) / USERS
    torch.testing.assert_close(first[:4], weights, atol=0.012, rtol=0)
    assert first[4] == 0
    # The second of the rest, without the first.
    after_best = order[order[:, 0] == 0, 1]
    second = torch.bincount(after_best, minlength=5) / len(after_best)
    torch.testing.assert_close(second[1:4], weights[1:] / weights[1:].sum(), atol=0.015, rtol=0)
    assert (order[:, 0] != order[:, 1]).all()
    # What is not there comes last, and a pool of as many as are wanted is taken as it is.
    assert (draw(Grouping(4, 5, 0.5), experiment) < 4).all()
    assert draw(Grouping(3, 3), experiment)[0].tolist() == [0, 1, 2]


def test_a_row_draws_the_same_in_any_batch_whatever_the_order_of_its_pool(experiment):
    keys, g = mix(np.arange(50, dtype=np.uint64)), torch.Generator().manual_seed(0)
    scores = torch.rand(USERS, 20, generator=g).sort(1, descending=True).values
    at = torch.stack([torch.randperm(50, generator=g)[:20] for _ in range(200)]).repeat(USERS // 200, 1)
    grouping, every = Grouping(4, 20), users()
    whole = at.gather(1, drawn_order(grouping, experiment, keys, 1.0, every, scores, at))
    some = slice(137, 180)
    part = at[some].gather(
        1, drawn_order(grouping, experiment, keys, 1.0, every.slice(137, 43), scores[some], at[some])
    )
    assert torch.equal(part, whole[some])
    another = drawn_order(grouping, experiment, keys, 1.0, users(history=1), scores, at)
    assert (at.gather(1, another) != whole).any(1).float().mean() > 0.5
    other_seed = experiment.model_copy(update={"seed": experiment.seed + 1})
    another = drawn_order(grouping, other_seed, keys, 1.0, every, scores, at)
    assert (at.gather(1, another) != whole).any(1).float().mean() > 0.5
