"""The map of content vectors as part of a model: folded into projections, kept with the weights, and nowhere forgotten."""

import numpy as np
import pytest
import torch

from foundrank.data.contents.conditioning import Conditioning
from foundrank.data.contents.content_table import ContentTable
from foundrank.data.vocabulary.vocabulary import KeyIndex
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.representation.conditioning import Conditioned, ContentProjection, condition, fit_conditioning
from foundrank.model.representation.embedding_tables import materialise
from foundrank.model.representation.interaction import cosines


def some(size: int, seed: int = 0) -> Conditioning:
    g = torch.Generator().manual_seed(seed)
    half = torch.randn(size, size, generator=g)
    return Conditioning(torch.randn(size, generator=g), half + half.T)


def test_a_projection_sees_what_the_map_makes_of_vectors_and_of_their_means():
    torch.manual_seed(0)
    projection = ContentProjection("text_item", 6, 5, conditioned=True)
    given = some(6)
    condition(projection, {"text_item": given, "text_query": some(6, 1)})
    vectors = torch.randn(7, 6)
    seen = (vectors - given.mean) @ given.matrix
    torch.testing.assert_close(projection.conditioned(vectors), seen)
    torch.testing.assert_close(projection(vectors), projection[1](projection[0](seen)))
    torch.testing.assert_close(projection(vectors.mean(0)), projection[1](projection[0](seen.mean(0))))


def test_until_it_is_fitted_it_changes_nothing():
    torch.manual_seed(0)
    with_it, without = (ContentProjection("text_item", 6, 5, conditioned) for conditioned in (True, False))
    without.load_state_dict({k: v for k, v in with_it.state_dict().items() if "conditioned" not in k})
    vectors = torch.randn(7, 6)
    torch.testing.assert_close(with_it(vectors), without(vectors))


def test_each_distinct_vector_of_a_catalog_counts_once(layout):
    vectors = torch.randn(9, 12)

    def table(rows: list[int]) -> ContentTable:
        return ContentTable(vectors, KeyIndex(np.arange(len(rows), dtype=np.uint64)), np.array(rows))

    found = fit_conditioning(
        {"text_item": table([0, 0, 0, 4, 7, -1]), "feature_image": table([1])}, layout, whiten=False
    )
    assert found.keys() == {"text_item"}
    torch.testing.assert_close(found["text_item"].mean, vectors[[0, 4, 7]].mean(0))


@pytest.mark.parametrize("gate", ["mean", "none"])
def test_it_decides_what_a_model_says_and_is_kept_with_its_weights(layout, config, make_batch, gate):
    batch = make_batch(layout, [6, 5, 4])
    given = {name: some(12, seed) for seed, name in enumerate(("text_item", "text_query"))}

    def model(kind: str) -> Foundation:
        torch.manual_seed(0)
        made = Foundation(layout, config(gate=gate, content_conditioning=kind), 15)
        materialise(made, 0)
        return made.eval()

    def logits(of: Foundation) -> torch.Tensor:
        with torch.no_grad():
            return of(batch)[1].logits

    plain, conditioned, again = model("none"), model("whiten"), model("whiten")
    assert not any(isinstance(module, Conditioned) for module in plain.modules())
    torch.testing.assert_close(logits(conditioned), logits(plain))
    condition(conditioned, given)
    said = logits(conditioned)
    assert not torch.allclose(said, logits(plain))
    again.load_state_dict(conditioned.state_dict())
    assert torch.equal(logits(again), said)
    if gate == "none":  # it is what vectors conditioned beforehand give a model that knows of none
        for name, own in {"text_item": "text_item", "text_query": "text_query", "text_history": "text_item"}.items():
            seen = (batch.vectors[name].float() - given[own].mean) @ given[own].matrix
            batch.vectors[name] = seen * batch.vector_present[name][:, None]
        torch.testing.assert_close(logits(plain), said, atol=1e-4, rtol=1e-4)


def test_cosines_are_those_around_the_means(layout, config, make_batch):
    batch = make_batch(layout, [6, 5, 4])
    batch.vectors = {name: vectors.float() for name, vectors in batch.vectors.items()}
    owners = Foundation(layout, config(), 15).dense.represent
    given = {name: some(12, seed) for seed, name in enumerate(("text_item", "text_query"))}
    condition(owners, given)
    found = cosines(layout, batch, owners.cosines, owners.encoder.centred)
    for column, (partner, own) in enumerate((("text_query", "text_query"), ("text_history", "text_item"))):
        ours, theirs = batch.vectors["text_item"] - given["text_item"].mean, batch.vectors[partner] - given[own].mean
        both = batch.vector_present["text_item"] & batch.vector_present[partner]
        torch.testing.assert_close(found[both, column], torch.cosine_similarity(ours, theirs)[both])
        assert found[~both, column].eq(0).all()
