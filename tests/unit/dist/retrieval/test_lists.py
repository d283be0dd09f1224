"""The lists that ranks speak of, against orders of all items; metrics of lists against slow counts."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from foundrank.dist.retrieval.alike import Cosines
from foundrank.dist.retrieval.list_metrics import catalog_metrics, list_counts, list_means
from foundrank.dist.retrieval.lists import LISTED, ListTeller, lists_of
from foundrank.dist.retrieval.products import NEVER
from foundrank.dist.retrieval.protocol import Protocol
from foundrank.dist.retrieval.rankings import ByVectors, Ranking, ranks_of_scores
from foundrank.dist.retrieval.slate import Slate
from foundrank.model.tasks.spread import ALONE

from .test_by_codes import decoder_of, slow_scores, users_of, world
from .test_by_codes import ranking_by_codes as by_codes

USERS = 4


def made(kind: str, seed: int, items: int) -> tuple[Ranking, Tensor, Tensor, Any]:
    """A ranking, users, the scores of all items, and what is gone."""
    codes, states, unknown, gone = world(seed, items, USERS)
    if kind == "vectors":
        vectors = torch.randint(-2, 3, (items, states.shape[1]), generator=torch.Generator().manual_seed(seed)).float()
        states = (2 * states).round()  # products are whole numbers, and many of them equal
        return ByVectors(vectors, unknown), states, (states @ vectors.T).masked_fill(unknown, NEVER), gone
    decoder = decoder_of(kind)
    scores = slow_scores(decoder, codes, states).masked_fill(unknown, NEVER)
    return by_codes(decoder, codes, unknown), users_of(decoder, states), scores, gone


@pytest.mark.parametrize("kind", ["vectors", "parallel", "autoregressive"])
@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 999), items=st.integers(1, 40), n=st.integers(1, 45), barring=st.booleans(), own=st.booleans()
)
def test_ranks_and_the_best_others_are_those_of_all_scores(kind, seed, items, n, barring, own):
    ranking, users, scores, gone = made(kind, seed, items)
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(-1, items, (USERS,), generator=g)
    if own:  # a past item may be the next
        gone = torch.cat([gone[0], torch.arange(USERS)[target >= 0]]), torch.cat([gone[1], target[target >= 0]])
    barred = (torch.rand(items, generator=g) < 0.3).expand(USERS, -1) if barring else None
    found = ranking.placed(users, target, gone, barred, n)
    assert found.ranks.tolist() == ranks_of_scores(scores.clone(), target, gone, barred).tolist()
    taking_part = scores.clone()
    taking_part[gone] = NEVER
    if barred is not None:
        taking_part[barred] = NEVER
    for user in range(USERS):
        rest = taking_part[user].clone()
        if found.ranks[user] < items:
            assert found.own[user] == pytest.approx(float(scores[user, target[user]]), abs=1e-4)
            rest[target[user]] = NEVER
        else:
            assert found.own[user] == NEVER
        there = found.scores[user] > NEVER
        many = min(n, int((rest > NEVER).sum()))
        assert int(there.sum()) == many
        mine = found.at[user][there]
        assert len(set(mine.tolist())) == many
        torch.testing.assert_close(rest[mine], rest.sort(descending=True).values[:many], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["vectors", "autoregressive"])
@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999), items=st.integers(1, 40), pool=st.integers(6, 30))
def test_where_a_slate_puts_the_own_item_is_its_rank(kind, seed, items, pool):
    ranking, users, _, gone = made(kind, seed, items)
    target = torch.randint(-1, items, (USERS,), generator=torch.Generator().manual_seed(seed))
    likeness = Cosines(torch.randn(items, 5, generator=torch.Generator().manual_seed(seed)))
    plain = ranking.placed(users, target, gone, None, pool)
    ranks, listed = lists_of(plain, target, None, likeness, 6)
    assert torch.equal(ranks, plain.ranks)
    for user in range(USERS):  # nothing that is among the best is lost where the own item is put in
        others = plain.at[user][plain.scores[user] > NEVER].tolist()
        own = [int(target[user])] if ranks[user] < min(6, items) else []
        best = [*others[: ranks[user]], *own, *others[ranks[user] :]][:6]
        assert listed[user].tolist() == best + [-1] * (6 - len(best))
    slate = Slate("mmr", 0.7, pool)
    moved, of_slate = lists_of(plain, target, slate, likeness, 6)
    for user in range(USERS):
        own, rank = int(target[user]), int(ranks[user])
        for row, at in ((listed, rank), (of_slate, int(moved[user]))):
            assert (
                (int(row[user, at]) == own) if at < 6 and rank < items else own not in row[user].tolist() or own == -1
            )
        if rank >= items:
            assert moved[user] == rank
        elif moved[user] >= 6:  # of those ahead of it by their scores, and those that the list has, each counts once
            ahead = {int(one) for one in plain.at[user][:rank]} if rank < pool else set(range(rank))
            in_list = {int(one) for one in of_slate[user] if one >= 0}
            assert moved[user] == (len(ahead | in_list) if rank < pool else rank)


def teller(counts: np.ndarray, vectors: Tensor, slate: Slate | None = None) -> ListTeller:
    likeness, unknown = Cosines(vectors), torch.zeros(len(vectors), dtype=torch.bool)
    retriever = SimpleNamespace(
        ranking=ByVectors(vectors, unknown), likeness=lambda content: likeness, items=SimpleNamespace(counts=counts)
    )
    return ListTeller(retriever, Protocol(slate=slate))  # type: ignore[arg-type]


@pytest.mark.parametrize("slate", [None, Slate("dpp", 0.6, 25)])
def test_what_is_told_of_lists_is_what_a_slow_count_finds(slate):
    g = torch.Generator().manual_seed(0)
    vectors, users, items = torch.randn(30, 4, generator=g), torch.randn(7, 4, generator=g), 30
    counts = np.random.default_rng(0).integers(0, 6, items).astype(np.float32)
    target, none = torch.full((7,), -1), (torch.zeros(0, dtype=torch.int64),) * 2
    past = torch.tensor([0, 0, 2]), torch.tensor([4, 9, 9])
    barred = torch.zeros(7, items, dtype=torch.bool)
    barred[6, 3:] = True
    ranks, columns = teller(counts, vectors, slate).of(users, target, none, barred, past)
    assert ranks.tolist() == [items] * 7
    listed = columns["listed"]
    best = ByVectors(vectors, torch.zeros(items, dtype=torch.bool)).placed(users, target, none, None, 1).at[:, 0]
    aside = torch.zeros(7, items, dtype=torch.bool).scatter(1, best[:, None], True)
    # A row's own item that takes no part but as such is ranked, and in no list that anybody is shown.
    own_ranks, of_own = teller(counts, vectors, slate).of(users, best, none, aside, past)
    assert own_ranks.tolist() == [0] * 7
    assert not (of_own["listed"] == best.numpy()[:, None]).any()
    assert ((of_own["listed"] >= 0).sum(1) == LISTED - 1).all()
    assert [(row >= 0).sum() for row in listed] == [LISTED] * 6 + [3]
    percentile = np.array([(np.sum(counts < one) + np.sum(counts <= one)) / 2 / items for one in counts])
    seen = np.maximum(counts, 1)
    units = (vectors / vectors.norm(dim=1, keepdim=True)).double().numpy()
    for row, distance, novelty, popularity in zip(
        listed, columns["distance"], columns["novelty"], columns["popularity"], strict=True
    ):
        mine = row[row >= 0]
        apart = [1 - units[a] @ units[b] for at, a in enumerate(mine) for b in mine[at + 1 :]]
        assert distance == pytest.approx(np.mean(apart), abs=1e-5)
        assert novelty == pytest.approx(np.mean(-np.log2(seen[mine] / seen.sum())))
        assert popularity == pytest.approx(percentile[mine].mean())
    np.testing.assert_allclose(columns["past_popularity"][[0, 2]], [percentile[[4, 9]].mean(), percentile[9]])
    assert np.isnan(columns["past_popularity"][[1, 3, 4, 5, 6]]).all()
    inside = np.arange(7) < 3
    means = list_means(list_counts(columns, inside))
    assert means["distance@10"] == pytest.approx(columns["distance"][:3].mean(), abs=1e-6)
    assert means["past_popularity"] == pytest.approx(columns["past_popularity"][[0, 2]].mean(), abs=1e-6)
    assert set(list_means(list_counts(columns, np.zeros(7, bool))).values()) == {None}
    assert list_means(list_counts({}, inside)) == {}


@given(lists=st.lists(st.lists(st.integers(-1, 11), min_size=4, max_size=4), max_size=9), more=st.integers(0, 5))
def test_coverage_and_gini_are_those_of_all_pairs_of_items(lists, more):
    listed, items = np.array(lists, np.int32).reshape(-1, 4), 12 + more
    found = catalog_metrics(listed, items, ALONE)
    shown = np.bincount(listed[listed >= 0], minlength=items)
    if not shown.sum():
        assert found == {"coverage@10": None, "gini@10": None}
        return
    assert found["coverage@10"] == pytest.approx((shown > 0).mean())
    apart = np.abs(shown[:, None] - shown[None]).sum()
    assert found["gini@10"] == pytest.approx(apart / (2 * items * shown.sum()))
