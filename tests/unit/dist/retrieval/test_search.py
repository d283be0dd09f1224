"""The best items: blocks against one sort, FAISS against blocks."""

import builtins
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from foundrank.data.errors import UserError
from foundrank.data.vocabulary.vocabulary import KeyIndex
from foundrank.dist.retrieval import search
from foundrank.dist.retrieval.products import Products
from foundrank.dist.retrieval.retrieval import Retriever
from foundrank.dist.retrieval.search import Approximate, Exact, recall


def made_up(items: int, users: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors in a few clusters, users, hidden items, and (row, position) of what is gone."""
    g = torch.Generator().manual_seed(seed)
    vectors = torch.randn(20, 8, generator=g)[torch.randint(0, 20, (items,), generator=g)]
    vectors = vectors + 0.3 * torch.randn(items, 8, generator=g)
    gone = torch.stack(
        [torch.randint(0, users, (4 * users,), generator=g), torch.randint(0, items, (4 * users,), generator=g)]
    )
    return vectors, torch.randn(users, 8, generator=g), torch.rand(items, generator=g) < 0.2, gone


def sorted_best(vectors, users, hidden, gone, k):
    scores = (users @ vectors.T).masked_fill(hidden, -torch.inf)
    scores[gone[0], gone[1]] = -torch.inf
    return scores.sort(dim=1, descending=True, stable=True)[0][:, :k]


@given(
    items=st.integers(1, 60),
    users=st.integers(1, 5),
    k=st.integers(1, 70),
    cells=st.integers(1, 200),
    seed=st.integers(0, 99),
)
def test_blocks_find_what_one_sort_finds(items, users, k, cells, seed):
    vectors, of_users, hidden, gone = made_up(items, users, seed)
    before, search.CELLS = search.CELLS, cells
    try:
        top, at = Exact(Products(vectors, hidden)).best(of_users, k, (gone[0], gone[1]))
    finally:
        search.CELLS = before
    wanted = sorted_best(vectors, of_users, hidden, gone, k)
    torch.testing.assert_close(top, wanted)
    there = top > -torch.inf
    torch.testing.assert_close((of_users[:, None] * vectors[at]).sum(2)[there], top[there], rtol=1e-4, atol=1e-4)
    assert all(len(set(row.tolist())) == len(row) for row in at)


def tied(seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items of which many are equal to the bit, at places far apart, and users; one of them knows nothing."""
    g = torch.Generator().manual_seed(seed)
    vectors = torch.randn(9, 8, generator=g)[torch.randint(0, 9, (70,), generator=g)]
    vectors[::7] = torch.randn(10, 8, generator=g)
    users = torch.randn(6, 8, generator=g)
    users[3] = 0
    return vectors, users, torch.rand(70, generator=g) < 0.1


@pytest.mark.parametrize("cells", [7, 40, 1 << 24])
@pytest.mark.parametrize("seed", range(5))
def test_equal_items_come_in_their_order_whatever_the_batch(monkeypatch, cells, seed):
    monkeypatch.setattr(search, "CELLS", cells)
    vectors, users, hidden = tied(seed)
    none = torch.zeros(2, 0, dtype=torch.int64)
    once = torch.unique(vectors, dim=0, return_inverse=True)[1]
    for k in (1, 5, 20, 100):
        together = Exact(Products(vectors, hidden)).best(users, k, (none[0], none[1]))
        for number, user in enumerate(users):
            # Of equal items the one with the lowest place is first, and not one of them that is shown is passed over.
            score = {one: float((user.double() * vectors[once == one][0].double()).sum()) for one in once.tolist()}
            shown = [place for place in range(70) if not hidden[place]]
            right = sorted(shown, key=lambda place: (-score[int(once[place])], place))[:k]
            alone = Exact(Products(vectors, hidden)).best(user[None], k, (none[0], none[1]))
            for top, at in ((together[0][number], together[1][number]), (alone[0][0], alone[1][0])):
                assert at[top > -torch.inf].tolist() == right


def test_equal_items_that_faiss_finds_come_in_their_order():
    pytest.importorskip("faiss")
    vectors, users, hidden = tied(0)
    none = torch.zeros(2, 0, dtype=torch.int64)
    wanted = Exact(Products(vectors, hidden)).best(users, 80, (none[0], none[1]))
    for part in (slice(None), slice(0, 1)):
        top, at = Approximate(Products(vectors, hidden)).best(users[part], 80, (none[0], none[1]))
        there = int((~hidden).sum())
        assert at[:, :there].tolist() == wanted[1][part, :there].tolist()
        torch.testing.assert_close(top[:, :there], wanted[0][part, :there])


def test_faiss_finds_nearly_all_and_nothing_hidden_or_gone():
    pytest.importorskip("faiss")
    vectors, users, hidden, gone = made_up(5000, 50)
    _, wanted = Exact(Products(vectors, hidden)).best(users, 20, (gone[0], gone[1]))
    gone = torch.cat([gone, torch.stack([torch.arange(50), wanted[:, 0]])], 1)  # also the very best
    wanted = Exact(Products(vectors, hidden)).best(users, 20, (gone[0], gone[1]))
    top, at = Approximate(Products(vectors, hidden)).best(users, 20, (gone[0], gone[1]))
    assert recall(at, wanted) > 0.8
    assert top.shape == (50, 20)
    assert (top.diff(dim=1) <= 0).all()
    torch.testing.assert_close((users[:, None] * vectors[at]).sum(2), top, rtol=1e-4, atol=1e-4)
    assert not hidden[at].any()
    left_out = {tuple(pair) for pair in gone.T.tolist()}
    assert not left_out & {(row, place) for row, places in enumerate(at.tolist()) for place in places}


@pytest.mark.parametrize("kind", [Exact, Approximate])
def test_few_items_or_none_are_no_mistake(kind):
    if kind is Approximate:
        pytest.importorskip("faiss")
    none = torch.zeros(2, 0, dtype=torch.int64)
    for items, hidden in ((0, []), (3, [True] * 3), (3, [False, True, False])):
        products = Products(torch.eye(3)[:items], torch.tensor(hidden, dtype=torch.bool))
        top, at = kind(products).best(torch.ones(2, 3), 5, (none[0], none[1]))
        found = [
            [place for place, score in zip(*row, strict=True) if score > -torch.inf]
            for row in zip(at.tolist(), top.tolist(), strict=True)
        ]
        assert [sorted(row) for row in found] == [[n for n, gone in enumerate(hidden) if not gone]] * 2


def test_each_past_item_that_is_one_of_all_is_told_seen_in_training_or_not():
    retriever = Retriever.__new__(Retriever)  # without a model
    retriever._index = KeyIndex(np.array([7, 3, 999], np.uint64))
    past: Any = SimpleNamespace(keys=torch.tensor([3, 5, 999]), at=torch.tensor([2, 3, 7]))
    row, place = retriever.past_of(SimpleNamespace(past=past), 4)  # type: ignore[arg-type]
    assert (row.tolist(), place.tolist()) == ([0, 1], [1, 2])


def test_recall_is_the_share_of_wanted_ones():
    scores = torch.tensor([[3.0, 2.0], [1.0, -torch.inf]])
    assert recall(torch.tensor([[1, 2], [3, 4]]), (scores, torch.tensor([[2, 9], [4, 3]]))) == pytest.approx(2 / 3)


def test_without_faiss_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def absent(name, *rest, **more):
        if name == "faiss":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(UserError, match="pip install faiss-cpu"):
        Approximate(Products(torch.eye(3), torch.zeros(3, dtype=torch.bool)))
