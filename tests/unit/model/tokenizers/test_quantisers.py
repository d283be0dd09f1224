"""Codes of vectors: what they keep of them, and what they depend on."""

import itertools

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from foundrank.data.errors import UserError
from foundrank.model.tokenizers import items as items_module
from foundrank.model.tokenizers import rq_vae
from foundrank.model.tokenizers.fsq import FSQ, turn
from foundrank.model.tokenizers.items import Codebook, Items
from foundrank.model.tokenizers.product import Product, _dealt
from foundrank.model.tokenizers.rq_kmeans import RqKmeans
from foundrank.model.tokenizers.rq_vae import RqVae

from .some_items import clusters, items_of, on_ranks

EVERY = np.arange(300)
VAE = RqVae(levels=2, size=8, hidden=(16,), latent=4, epochs=15, batch_size=64, learning_rate=5e-3)


def residual_error(x: torch.Tensor, centroids: torch.Tensor, codes: np.ndarray) -> list[float]:
    """Of the levels' sums, one level more each time; first without any."""
    found, left = [float(x.square().mean())], x
    for level, of_level in enumerate(centroids[: codes.shape[1]]):
        left = left - of_level[torch.from_numpy(codes[:, level])]
        found.append(float(left.square().mean()))
    return found


@pytest.mark.parametrize("balanced", [False, True])
def test_each_level_takes_some_of_what_those_before_it_left(balanced):
    x = clusters()
    method = RqKmeans(levels=4, size=8, balanced=balanced)
    codebook = method.fit(items_of(x))
    codes = method.codes(codebook, items_of(x), EVERY)
    assert codes.shape == (300, 4)
    assert codebook["centroids"].shape == (4, 8, 8)
    errors = residual_error(x, codebook["centroids"], codes)
    assert all(after < (1.0 if balanced else 0.97) * before for before, after in itertools.pairwise(errors))
    assert errors[-1] < 0.05 * errors[0]


def test_a_code_is_the_nearest_to_what_is_left():
    x = clusters()
    method = RqKmeans(levels=2, size=8)
    codebook = method.fit(items_of(x))
    codes = method.codes(codebook, items_of(x), EVERY)
    first, second = codebook["centroids"].double()
    left = x.double() - first[codes[:, 0]]
    assert np.array_equal(codes[:, 0], torch.cdist(x.double(), first).argmin(1))
    assert np.array_equal(codes[:, 1], torch.cdist(left, second).argmin(1))
    last = method.last(codebook, items_of(x), EVERY[:20])
    own = last + left[:20].square().sum(1, keepdim=True)
    torch.testing.assert_close(own.double(), torch.cdist(left[:20], second).square(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "method",
    [RqKmeans(levels=3, size=6), RqKmeans(levels=2, size=6, balanced=True), Product(levels=3, size=6)],
    ids=str,
)
def test_ranks_fit_the_same_codebook_however_many_they_are(monkeypatch, method):
    monkeypatch.setattr(items_module, "BLOCK", 32)
    first, *others = [found for ranks in (1, 2, 5) for found in on_ranks(ranks, clusters(), method.fit)]
    for other in others:
        assert other.keys() == first.keys()
        assert all(torch.equal(other[name], first[name]) for name in first)


@pytest.mark.parametrize("method", [RqKmeans(levels=2, size=6), Product(levels=3, size=6), FSQ(levels=2), VAE], ids=str)
def test_codes_of_an_item_do_not_depend_on_who_is_tokenized_with_it(method):
    items = items_of(clusters())
    codebook = method.fit(items)
    every = method.codes(codebook, items, EVERY)
    some = np.array([299, 5, 17])
    assert np.array_equal(method.codes(codebook, items, some), every[some])
    assert ((every >= 0) & (every < np.array(method.values))).all()


def skewed(items: int = 2000, width: int = 12) -> torch.Tensor:
    """Directions of very different variance, mixed."""
    g = torch.Generator().manual_seed(0)
    mixed, _ = torch.linalg.qr(torch.randn(width, width, generator=g))
    return torch.randn(items, width, generator=g) * 0.7 ** torch.arange(width).float() @ mixed + 1


def test_a_product_turns_vectors_into_parts_that_say_about_as_much():
    x = skewed()
    codebook = Product(levels=3, size=8).fit(items_of(x))
    turned = codebook["turn"]
    assert turned.shape == (12, 12)
    torch.testing.assert_close(turned.T @ turned, torch.eye(12), rtol=0, atol=1e-5)
    places = x @ turned
    covariance = torch.cov(places.T)
    off = covariance - covariance.diagonal().diag()
    assert float(off.abs().max()) < 1e-3 * float(covariance.max())
    products = torch.stack([part.var(0).log().sum() for part in places.chunk(3, 1)])
    plain = torch.stack([part.sum() for part in covariance.diagonal().log().sort(descending=True)[0].chunk(3)])
    assert float(products.max() - products.min()) < 0.2 * float(plain.max() - plain.min())


def test_parts_are_of_one_size_and_directions_that_are_left_over_have_none():
    dealt = _dealt([8.0, 4, 2, 1, 0.5, 0.25, 0.125], 3)
    assert sorted(dealt) == [0, 1, 2, 3, 4, 5]
    assert Product(levels=3, size=4).fit(items_of(skewed(width=7)))["turn"].shape == (7, 6)
    with pytest.raises(UserError, match=r"codes.levels: 9: is more than the 8 numbers of a vector"):
        Product(levels=9).fit(items_of(clusters()))


def test_a_part_s_code_is_its_nearest_value():
    x = skewed(300)
    method = Product(levels=3, size=8)
    codebook = method.fit(items_of(x))
    codes = method.codes(codebook, items_of(x), EVERY)
    for level, part in enumerate((x.double() @ codebook["turn"].double()).chunk(3, 1)):
        assert np.array_equal(codes[:, level], torch.cdist(part, codebook["centroids"][level].double()).argmin(1))


def test_finite_scalars_need_no_catalog():
    method, x = FSQ(levels=3, scalars=(4, 2)), clusters(50)
    assert method.fit(items_of(x)) == {}
    every = method.codes({}, items_of(x), np.arange(50))
    alone = np.concatenate(
        [method.codes({}, items_of(x[at : at + 1], seed=at), np.zeros(1, np.int64)) for at in range(50)]
    )
    assert np.array_equal(every, alone)
    assert method.values == (8, 8, 8)


def test_finite_scalars_are_the_steps_of_a_turned_vector():
    x = torch.nn.functional.normalize(torch.randn(4000, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    method = FSQ(levels=4, scalars=(4, 2))
    codes = method.codes({}, items_of(x), np.arange(4000))
    turned = (x @ turn(16))[:, :8].view(4000, 4, 2)
    torch.testing.assert_close(turn(16) @ turn(16).T, torch.eye(16), rtol=0, atol=1e-5)
    assert np.array_equal(codes % 2, (turned[..., 1] >= 0).numpy())
    assert np.array_equal(codes // 2 >= 2, (turned[..., 0] >= 0).numpy())
    for level in codes.T:  # steps are about as full
        counts = np.bincount(level, minlength=8)
        assert counts.max() < 1.4 * counts.min()


def test_near_vectors_share_most_finite_scalars_and_others_few():
    g = torch.Generator().manual_seed(1)
    x = torch.nn.functional.normalize(torch.randn(200, 64, generator=g), dim=1)
    near = torch.nn.functional.normalize(x + 0.005 * torch.randn(200, 64, generator=g), dim=1)
    method, at = FSQ(levels=16, scalars=(4, 4)), np.arange(200)
    own, of_near = (method.codes({}, items_of(of), at) for of in (x, near))
    assert (own == of_near).mean() > 0.85
    assert (own == np.roll(of_near, 1, 0)).mean() < 0.15


def test_finite_scalars_that_are_too_many_are_refused():
    with pytest.raises(UserError, match=r"codes.levels: 5: of 2 numbers are more than the 8 of a vector"):
        FSQ(levels=5, scalars=(4, 4)).fit(items_of(clusters()))
    FSQ(levels=4, scalars=(4, 4)).fit(items_of(clusters()))
    with pytest.raises(ValidationError, match="262,144 values of a level"):
        FSQ(levels=1, scalars=(64, 64, 64))


def encoded(method: RqVae, codebook: Codebook, items: Items) -> torch.Tensor:
    return method._encode(codebook, items.at(EVERY))


def test_an_autoencoder_s_codes_say_what_items_are():
    x = clusters(many=12)
    items = items_of(x)
    codebook = VAE.fit(items)
    codes = VAE.codes(codebook, items, EVERY)
    latent = encoded(VAE, codebook, items)
    errors = residual_error(latent, codebook["centroids"], codes)
    assert errors[0] > 1.5 * errors[1] > 1.5 * errors[2]
    shuffled = np.random.default_rng(0).permutation(codes)
    assert residual_error(latent, codebook["centroids"], shuffled)[-1] > 3 * errors[-1]
    means = {tuple(code): x[(codes == code).all(1)].mean(0) for code in codes}
    kept = torch.stack([means[tuple(code)] for code in codes])
    assert float((x - kept).square().mean()) < 0.15 * float((x - x.mean(0)).square().mean())
    assert all(len(np.unique(level)) >= 6 for level in codes.T)


def test_an_autoencoder_is_learnt_alike_every_time_and_in_any_other_random_state():
    items = items_of(clusters())
    first = VAE.fit(items)
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    again = VAE.fit(items)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(again[name], first[name]) for name in first)
    other = VAE.fit(items_of(clusters(), seed=1))
    assert not torch.equal(other["centroids"], first["centroids"])


def test_values_that_die_come_to_life_again(monkeypatch):
    def far_away(self, latent, items):
        return torch.full((self.levels, self.size, self.latent), 50.0) + torch.arange(self.size)[None, :, None]

    monkeypatch.setattr(RqVae, "_begin", far_away)
    items = items_of(clusters())
    codes = VAE.codes(VAE.fit(items), items, EVERY)
    assert all(len(np.unique(level)) >= 6 for level in codes.T)
    monkeypatch.setattr(rq_vae, "_DEAD_FOR", 10**6)
    codes = VAE.codes(VAE.fit(items), items, EVERY)
    assert min(len(np.unique(level)) for level in codes.T) < 3
