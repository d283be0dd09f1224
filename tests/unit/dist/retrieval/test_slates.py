"""Lists that are not of one kind, against slow ones made item by item; the same whatever else is in the batch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from foundrank.data.errors import UserError
from foundrank.dist.retrieval import alike as likening
from foundrank.dist.retrieval.alike import Cosines, EqualCodes, Likeness
from foundrank.dist.retrieval.products import NEVER
from foundrank.dist.retrieval.slate import METHODS, Slate, slate_of
from foundrank.dist.retrieval.slates import GAINS, slates

ITEMS = 40
WEIGHTS = st.sampled_from([0.001, 0.2, 0.5, 0.8, 1.0])


def likeness_of(kind: str, seed: int = 0) -> tuple[Likeness, np.ndarray]:
    """How alike items are, and the same by a slow count ``[C, C]``; some items are equal, one has nothing to be compared by."""
    random = np.random.default_rng(seed)
    if kind == "codes":
        codes, there = random.integers(0, 3, (ITEMS, 4)).astype(np.int16), np.arange(ITEMS) != 7
        slow = (codes[:, None] == codes[None]).mean(2) * (there[:, None] & there[None])
        return EqualCodes(torch.from_numpy(codes), torch.from_numpy(there)), slow
    vectors = random.normal(size=(ITEMS, 6)).astype(np.float32)
    vectors[7], vectors[9] = 0, vectors[8]
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    units = vectors / np.where(lengths > 0, lengths, 1)[:, None]
    return Cosines(torch.from_numpy(vectors)), units @ units.T


def pools(seed: int, users: int, pool: int) -> tuple[Tensor, Tensor]:
    """The best items of users, equal scores among them; some users have fewer."""
    g = torch.Generator().manual_seed(seed)
    scores = (4 * torch.randn(users, pool, generator=g)).round().sort(1, descending=True).values / 3
    many = torch.randint(0, pool + 1, (users, 1), generator=g)
    at = torch.stack([torch.randperm(ITEMS, generator=g)[:pool] for _ in range(users)])
    return torch.where(torch.arange(pool)[None] < many, scores, NEVER), at


def slow_gains(
    method: str, relevance: np.ndarray, alike: np.ndarray, weight: float, chosen: list[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What each item would add to a list, from the definitions, and by how much rounded cosines may change that."""
    if method == "mmr":
        return (1 - weight) * relevance - weight * alike[chosen].max(0), np.full(len(relevance), 1e-6)
    kernel = (1 + alike) / 2
    np.fill_diagonal(kernel, 1 + 1e-5)

    def log_det(of: list[int]) -> float:
        return float(np.linalg.slogdet(kernel[np.ix_(of, of)])[1])

    others = [log_det([*chosen, one]) if one not in chosen else -np.inf for one in range(len(relevance))]
    added = np.array(others) - log_det(chosen)
    # Vectors of six numbers span seven items: what an eighth adds is the diagonal's 1e-5 alone, a hundred times a rounding.
    left = np.exp(np.where(np.isinf(added), 0, added))
    return (1 - weight) * relevance + weight * added, 1e-6 + weight * 1e-6 / left


@pytest.mark.parametrize("kind", ["vectors", "codes"])
@pytest.mark.parametrize("method", METHODS)
@given(seed=st.integers(0, 999), users=st.integers(1, 4), pool=st.integers(1, 12), k=st.integers(1, 12), weight=WEIGHTS)
def test_each_item_is_the_one_that_adds_most(method, kind, seed, users, pool, k, weight):
    likeness, alike = likeness_of(kind, seed)
    scores, at = pools(seed, users, pool)
    found = slates(Slate(method, weight, pool), scores, at, likeness, k)
    assert found.shape == (users, min(k, pool))
    for of_user, places, row in zip(scores.double().numpy(), at.numpy(), found.tolist(), strict=True):
        many = int((of_user > NEVER).sum())
        assert len(set(row)) == len(row)
        assert row[0] == 0
        assert all(place < many for place in row[:many])  # what is not there comes last
        span = of_user[0] - of_user[many - 1] if many else 0
        relevance = (of_user[:many] - of_user[many - 1]) / span if span > 0 else np.zeros(many)
        of_pool = alike[np.ix_(places, places)][:many, :many]
        for place in range(1, min(len(row), many)):
            gains, rounding = slow_gains(method, relevance, of_pool, weight, row[:place])
            gains[row[:place]] = -np.inf
            best = np.flatnonzero(gains + rounding >= (gains - rounding).max())
            assert row[place] in best


@pytest.mark.parametrize("kind", ["vectors", "codes"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cells", [1, 3000, 1 << 21])
def test_a_list_is_the_same_alone_and_among_others(monkeypatch, method, kind, cells):
    monkeypatch.setattr(likening, "_CELLS", cells)
    likeness, _ = likeness_of(kind)
    scores, at = pools(3, 33, 25)
    slate = Slate(method, 0.5, 25)
    together = slates(slate, scores, at, likeness, 20)
    for user in range(33):
        one = slice(user, user + 1)
        assert torch.equal(slates(slate, scores[one], at[one], likeness, 20), together[one])
    assert torch.equal(slates(slate, scores, at, likeness, 5), together[:, :5])
    assert (together[:, :5] != torch.arange(5)).any()


@pytest.mark.parametrize("method", METHODS)
def test_of_items_that_add_as_much_the_better_one_is_taken(method):
    same = Cosines(torch.ones(ITEMS, 3))
    scores, at = torch.zeros(2, 9), torch.arange(18).view(2, 9)
    assert slates(Slate(method, 0.5, 9), scores, at, same, 9).tolist() == [list(range(9))] * 2


@pytest.mark.parametrize("method", METHODS)
def test_more_weight_makes_lists_that_are_less_alike(method):
    likeness, alike = likeness_of("vectors")
    _, at = pools(0, 50, 30)
    scores = torch.linspace(3, 1, 30).expand(50, -1)
    means = []
    for weight in (1e-6, 0.3, 1.0):
        listed = at.gather(1, slates(Slate(method, weight, 30), scores, at, likeness, 6)).numpy()
        means.append(np.mean([alike[np.ix_(row, row)][np.triu_indices(6, 1)].mean() for row in listed]))
    assert means[0] > means[1] + 0.05
    assert means[1] > means[2]


def test_nobody_and_nothing_have_no_lists():
    likeness, _ = likeness_of("vectors")
    none = torch.zeros(3, 0), torch.zeros(3, 0, dtype=torch.int64)
    assert slates(Slate("dpp", 0.5, 9), *none, likeness, 4).shape == (3, 0)
    assert slates(Slate("mmr", 0.5, 9), torch.zeros(0, 9), torch.zeros(0, 9, dtype=torch.int64), likeness, 4).shape == (
        0,
        4,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_cosines_are_the_same_to_the_bit_in_any_shape(dtype):
    vectors = torch.randn(50, 96, generator=torch.Generator().manual_seed(0)).to(dtype) * 7
    rows = torch.randint(-1, 50, (ITEMS,), generator=torch.Generator().manual_seed(1))
    likeness, at = Cosines(vectors, rows), torch.arange(ITEMS)[None]
    whole = likeness.of(at)[0, 3]
    wanted = torch.nn.functional.cosine_similarity(vectors[rows].double(), vectors[rows[3]].double()[None])
    wanted[rows < 0] = 0
    assert rows[3] >= 0
    torch.testing.assert_close(whole, wanted, rtol=0, atol=1e-6)
    for other in range(ITEMS):
        assert likeness.of(torch.tensor([[other, 3]] * 5))[2, 0, 1] == whole[other]
    assert whole[3] == pytest.approx(1, abs=1e-6)


def test_what_is_asked_for_is_understood_or_refused():
    assert slate_of(None, None, None, 10) is None
    assert slate_of("mmr", 0, 50, 10) is None  # relevance alone: the order of scores
    assert slate_of("dpp", 0.3, None, 10) == Slate("dpp", 0.3, 50)
    assert slate_of("dpp", 1, 10, 10) == Slate("dpp", 1.0, 10)
    assert tuple(GAINS) == METHODS
    for asked, told in (
        ((None, 0.3, None, 10), "--diversity-weight 0.3.*says nothing without --diversity"),
        ((None, None, 30, 10), "--pool 30.*says nothing without --diversity"),
        ((None, None, None, 10, "text"), "--alike-by text.*says nothing without --diversity"),
        (("mrr", 0.3, None, 10), "Did you mean 'mmr'"),
        (("mmr", None, None, 10), "needs --diversity-weight"),
        (("mmr", float("nan"), None, 10), "has a weight of nan"),
        (("mmr", 1.5, None, 10), "has a weight of 1.5"),
        (("dpp", 0.3, 9, 10), "--pool 9.*Give 10 or more"),
    ):
        with pytest.raises(UserError, match=told):
            slate_of(*asked)
