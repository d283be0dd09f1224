"""Vectors are centred and whitened by what was fitted, whatever their number and scale."""

import numpy as np
import pytest
import torch

from foundrank.data.contents import conditioning
from foundrank.data.contents.conditioning import Conditioning, fitted, mean_cosine


def cone(rows: int, size: int, seed: int = 0) -> np.ndarray:
    """``[rows, size]`` float64 in a narrow cone: a few directions have most of what differs."""
    rng = np.random.default_rng(seed)
    vectors = (
        3 + rng.normal(size=(rows, size)) * np.geomspace(1, 0.2, size) @ np.linalg.qr(rng.normal(size=(size, size)))[0]
    )
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def applied(found: Conditioning, vectors: np.ndarray) -> np.ndarray:
    return (vectors - found.mean.double().numpy()) @ found.matrix.double().numpy()


def test_whitened_vectors_have_no_mean_no_correlations_and_more_equal_variances():
    vectors = cone(9000, 6)
    white = applied(fitted(torch.from_numpy(vectors), np.arange(9000), whiten=True), vectors)
    np.testing.assert_allclose(white.mean(0), 0, atol=1e-6)
    assert np.square(white).sum(1).mean() == pytest.approx(1, abs=1e-5)
    before, after = np.linalg.eigvalsh(np.cov(vectors.T)), np.linalg.eigvalsh(np.cov(white.T))
    assert before[-1] / before[1] > 8  # but the first, the direction that vectors of length 1 do without
    assert after[-1] / after[1] < 4
    # The principal directions are what they were, each divided by its deviation after shrinkage by half.
    covariance = np.cov(vectors.T, bias=True)
    values, directions = np.linalg.eigh(covariance)
    shrunk = 0.5 * values + 0.5 * values.mean()
    wanted = (vectors - vectors.mean(0)) @ directions / np.sqrt(shrunk) @ directions.T
    np.testing.assert_allclose(white, wanted / np.sqrt(np.square(wanted).sum(1).mean()), atol=1e-5)


def test_centring_leaves_angles_around_the_mean():
    vectors = cone(50, 4)
    found = fitted(torch.from_numpy(vectors).half(), np.arange(50), whiten=False)
    rounded = vectors.astype(np.float16).astype(np.float64)
    centred = rounded - rounded.mean(0)
    np.testing.assert_allclose(applied(found, rounded), centred / np.sqrt(np.square(centred).sum(1).mean()), atol=1e-5)


def test_only_the_given_rows_count():
    vectors = cone(200, 5)
    found = fitted(torch.from_numpy(vectors), np.arange(0, 200, 2), whiten=True)
    alone = fitted(torch.from_numpy(vectors[::2].copy()), np.arange(100), whiten=True)
    torch.testing.assert_close(found.mean, alone.mean)
    torch.testing.assert_close(found.matrix, alone.matrix)


def test_blocks_and_scale_change_nothing(monkeypatch):
    vectors = torch.from_numpy(cone(300, 5))
    whole = fitted(vectors, np.arange(300), whiten=True)
    monkeypatch.setattr(conditioning, "_BLOCK", 7)
    torch.testing.assert_close(fitted(vectors, np.arange(300), whiten=True).matrix, whole.matrix)
    larger = fitted(1000 * vectors, np.arange(300), whiten=True)
    torch.testing.assert_close(1000 * larger.matrix, whole.matrix)


def test_of_very_many_every_so_manieth_is_looked_at(monkeypatch):
    vectors = torch.from_numpy(cone(300, 5))
    monkeypatch.setattr(conditioning, "_MOST", 100)
    torch.testing.assert_close(
        fitted(vectors, np.arange(300), whiten=True).matrix, fitted(vectors, np.arange(0, 300, 3), whiten=True).matrix
    )


@pytest.mark.parametrize("rows", [2, 3, 10])
def test_of_few_vectors_new_ones_are_not_blown_up(rows):
    found = fitted(torch.from_numpy(cone(rows, 48)), np.arange(rows), whiten=True)
    lengths = np.linalg.norm(applied(found, cone(500, 48, seed=1)), axis=1)
    assert np.isfinite(lengths).all()
    assert lengths.max() < 5
    values = torch.linalg.eigvalsh(found.matrix.double())
    assert values[-1] / values[0] < 8


def test_a_dimension_that_is_always_the_same_is_no_trouble():
    vectors = np.concatenate([cone(100, 4), np.full((100, 1), 0.25), np.zeros((100, 1))], 1)
    white = applied(fitted(torch.from_numpy(vectors), np.arange(100), whiten=True), vectors)
    assert np.isfinite(white).all()
    np.testing.assert_allclose(white[:, 4:], 0, atol=1e-6)


@pytest.mark.parametrize(
    "vectors", [np.zeros((0, 3)), np.ones((1, 3)), np.tile([0.3, 0.7, 0.1], (40, 1)), np.zeros((5, 3))]
)
@pytest.mark.parametrize("whiten", [True, False])
def test_vectors_that_do_not_differ_stay_as_they_are(vectors, whiten):
    found = fitted(torch.from_numpy(vectors).half(), np.arange(len(vectors)), whiten)
    assert torch.equal(found.mean, torch.zeros(3))
    assert torch.equal(found.matrix, torch.eye(3))


def test_mean_cosine_before_and_after():
    vectors = cone(4000, 24)
    unit = torch.from_numpy(vectors)
    every = vectors @ vectors.T
    wanted = (every.sum() - len(vectors)) / (len(vectors) * (len(vectors) - 1))
    found = mean_cosine(unit)
    assert found == pytest.approx(wanted, abs=0.01)
    assert found == mean_cosine(unit)
    assert found > 0.5
    after = mean_cosine(unit, fitted(unit, np.arange(4000), whiten=True))
    assert after == pytest.approx(0, abs=0.02)
    assert mean_cosine(unit[:1]) is None
    assert mean_cosine(torch.zeros(3, 4)) is None
    assert mean_cosine(torch.cat([unit[:1], unit[:1], torch.zeros(50, 24)])) == pytest.approx(1)
