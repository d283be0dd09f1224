"""K-means whose blocks ranks share out."""

import pytest
import torch

from foundrank.model.tokenizers import items as items_module
from foundrank.model.tokenizers.k_means import distances, k_means, nearest

from .some_items import clusters, items_of, on_ranks


def error(x: torch.Tensor, centroids: torch.Tensor) -> float:
    return float(torch.cdist(x.double(), centroids.double()).amin(1).square().sum())


def lloyd(x: torch.Tensor, centroids: torch.Tensor) -> torch.Tensor:
    """One plain iteration."""
    at = torch.cdist(x.double(), centroids.double()).argmin(1)
    return torch.stack([x[at == one].mean(0) if (at == one).any() else centroids[one] for one in range(len(centroids))])


def test_the_nearest_is_the_nearest():
    x, centroids = clusters(50), clusters(7, seed=3)
    whole = torch.cdist(x, centroids).square()
    assert torch.equal(nearest(x, centroids), whole.argmin(1))
    torch.testing.assert_close(distances(x, centroids) + x.square().sum(1, keepdim=True), whole, rtol=1e-4, atol=1e-3)
    price = torch.zeros(7)
    price[0] = -1e6
    assert (nearest(x, centroids, price) == 0).all()


@pytest.mark.parametrize("balanced", [False, True])
def test_any_split_of_the_blocks_gives_the_same_bits(monkeypatch, balanced):
    monkeypatch.setattr(items_module, "BLOCK", 32)
    x = clusters()
    found = [
        result
        for ranks in (1, 2, 3, 12)
        for result in on_ranks(ranks, x, lambda items: k_means(items, items.at, 9, 0, 8, balanced))
    ]
    assert len(found) == 18
    for centroids, price in found[1:]:
        assert torch.equal(centroids, found[0][0])
        assert torch.equal(price, found[0][1])


def test_clusters_are_found_and_nothing_is_left_to_settle():
    x = clusters(300, many=12)
    centroids, price = k_means(items_of(x), items_of(x).at, 12, 0, 50)
    assert torch.equal(price, torch.zeros(12))
    assert error(x, centroids) < 300 * 8 * 0.3**2 * 1.5  # what is left is what clusters have inside
    torch.testing.assert_close(lloyd(x, centroids), centroids, rtol=1e-2, atol=1e-2)


def test_an_iteration_is_that_of_lloyd():
    x = clusters(200, many=40)
    one, two = (k_means(items_of(x), items_of(x).at, 5, 0, iterations)[0] for iterations in (1, 2))
    torch.testing.assert_close(lloyd(x, one), two, rtol=1e-5, atol=1e-5)


def test_another_seed_or_number_begins_elsewhere():
    x = clusters(200, many=40)
    found = [
        k_means(items_of(x, seed), items_of(x).at, 5, number, 1)[0] for seed, number in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[3])


def test_a_centroid_without_items_begins_anew_where_it_is_needed(monkeypatch):
    x = clusters(120, many=6)
    # All begin in one cluster, so that others have to come to life again.
    monkeypatch.setattr(
        "foundrank.model.tokenizers.k_means._plus_plus",
        lambda sample, values, _: x[0] + torch.full((values, 8), 1e3) * torch.arange(values)[:, None],
    )
    centroids, _ = k_means(items_of(x), items_of(x).at, 6, 0, 30)
    assert len(nearest(x, centroids).unique()) == 6
    assert error(x, centroids) < 0.5 * error(x, x.mean(0, keepdim=True))


@pytest.mark.parametrize("items", [1, 2, 5])
@pytest.mark.parametrize("balanced", [False, True])
def test_fewer_items_than_values_have_a_value_each(items, balanced):
    x = clusters(items, many=items)
    centroids, price = k_means(items_of(x), items_of(x).at, 9, 0, 5, balanced)
    assert centroids.shape == (9, 8)
    assert torch.isfinite(centroids).all()
    assert torch.isfinite(price).all()
    if not balanced:
        assert len(nearest(x, centroids).unique()) == items
        assert error(x, centroids) < 1e-3


def test_items_of_which_many_are_the_same():
    x = clusters(4, many=4).repeat(50, 1)
    centroids, _ = k_means(items_of(x), items_of(x).at, 9, 0, 10)
    found = nearest(x, centroids).view(50, 4)
    assert (found == found[0]).all()
    assert len(found[0].unique()) == 4
    assert error(x, centroids) < 1e-2


def test_balancing_evens_out_what_is_crowded():
    x = clusters(960, many=960) * torch.linspace(0.2, 2, 960)[:, None]  # the denser, the nearer to the middle
    counts = []
    for balanced in (False, True):
        centroids, price = k_means(items_of(x), items_of(x).at, 16, 0, 25, balanced)
        counts.append(torch.bincount(nearest(x, centroids, price), minlength=16))
    plain, even = counts
    assert plain.max() > 150
    assert plain.min() < 40
    assert even.max() < 80
    assert even.min() > 50
