"""A tree of items that are found together."""

import numpy as np
import torch

from foundrank.data.codes.co_occurrence import graph_of, leading_places
from foundrank.model.tokenizers.tree import Tree

from .some_items import items_of

GROUPS, SIZE, ALONE = 4, 40, 50


def places(dimension: int = 4) -> torch.Tensor:
    """Of groups of items that are together with their own group, now and then with another; the last ones are with none."""
    random, items = np.random.default_rng(0), GROUPS * SIZE + ALONE
    one, two = random.integers(0, GROUPS * SIZE, (2, 6000))
    own = (one % GROUPS == two % GROUPS) | (random.random(6000) < 0.02)
    own &= one != two
    pairs, counts = np.unique(np.minimum(one, two)[own] * items + np.maximum(one, two)[own], return_counts=True)
    return leading_places(graph_of([(pairs, counts)], items), dimension, torch.Generator().manual_seed(0))


METHOD = Tree(levels=2, size=4, dimension=4)
EVERY = np.arange(GROUPS * SIZE + ALONE)


def test_items_that_are_often_together_begin_alike():
    items = items_of(places())
    codes = METHOD.codes(METHOD.fit(items), items, EVERY)
    assert codes.shape == (len(EVERY), 2)
    of_group = [codes[group : GROUPS * SIZE : GROUPS, 0] for group in range(GROUPS)]
    usual = [np.bincount(of, minlength=4).argmax() for of in of_group]
    assert len(set(usual)) == GROUPS
    assert all((of == most).mean() > 0.95 for of, most in zip(of_group, usual, strict=True))
    for of in range(GROUPS):  # and a branch goes on
        assert len(np.unique(codes[of : GROUPS * SIZE : GROUPS, 1])) == 4


def test_what_is_with_no_other_is_put_by_its_hash():
    items = items_of(places())
    codes = METHOD.codes(METHOD.fit(items), items, EVERY)
    alone = codes[GROUPS * SIZE :]
    assert np.bincount(alone[:, 0], minlength=4).min() > 4
    assert not np.array_equal(alone[:, 0], alone[:, 1])
    nothing = items_of(torch.zeros(ALONE, 4), keys=items.keys[GROUPS * SIZE :])
    other = METHOD.codes(METHOD.fit(nothing), nothing, np.arange(ALONE))
    assert np.array_equal(alone, other)
    assert np.array_equal(METHOD.codes(METHOD.fit(items_of(places(), seed=5)), items, EVERY)[GROUPS * SIZE :], alone)


def test_a_branch_of_few_items_is_not_split():
    few = items_of(torch.eye(4).repeat(5, 1))
    codebook = METHOD.fit(few)
    assert not len(codebook["split.0"])
    by_hash = METHOD.codes(codebook, items_of(torch.zeros(20, 4)), np.arange(20))
    assert np.array_equal(METHOD.codes(codebook, few, np.arange(20)), by_hash)
    assert len(METHOD.fit(items_of(torch.eye(4).repeat(6, 1)))["split.0"]) == 1


def test_items_of_a_branch_that_is_not_split_go_on_by_their_hash():
    centres = torch.repeat_interleave(torch.eye(4), torch.tensor([60, 10, 60, 10]), 0)
    items = items_of(centres + 0.01 * torch.randn(140, 4, generator=torch.Generator().manual_seed(0)))
    codebook = METHOD.fit(items)
    codes, split = METHOD.codes(codebook, items, np.arange(140)), codebook["split.1"].numpy()
    unsplit = ~np.isin(codes[:, 0], split)
    assert unsplit.sum() == 20
    assert codes[unsplit, 0].min() < split.max()
    by_hash = METHOD.codes(codebook, items_of(torch.zeros(140, 4)), np.arange(140))
    assert np.array_equal(codes[unsplit, 1], by_hash[unsplit, 1])
    assert not np.array_equal(codes[~unsplit, 1], by_hash[~unsplit, 1])


def test_codes_of_an_item_do_not_depend_on_who_is_tokenized_with_it():
    items = items_of(places())
    codebook = METHOD.fit(items)
    some = np.array([200, 3, 77, 41])
    assert np.array_equal(METHOD.codes(codebook, items, some), METHOD.codes(codebook, items, EVERY)[some])
