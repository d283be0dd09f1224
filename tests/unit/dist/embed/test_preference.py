"""A preference in words: which place of a prefix it takes, its vector, and what is refused."""

import re
from pathlib import Path

import numpy as np
import pytest

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.data.schema.prefix_needs import prefix_needs
from foundrank.dist.embed.preference import PreferenceEncoder, check_preference
from foundrank.dist.score.recommend_input import domain_of_users, user_needs
from foundrank.model.contents.random_vectors import RandomVectors
from foundrank.model.kinds import KINDS
from tests.tiny_world import random_events, write_world

MODEL = "model={{history: {{encoder: sasrec, prefix: {0}}}, next_item: {{loss: softmax}}}}"
TASTE = "taste: {vector: clicks, size: 6, source: events}"
OTHER = "mood: {vector: slot, size: 6, source: events}"
RANDOM = "text={vectors: random, dimension: 6}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preference")
    write_world(folder, random_events(1, {"find": 20, "home": 20, "new": 10}))
    return folder


def loaded(world: Path, prefix: str, contents: str, *more: str):
    return load_experiment(world, [f"entities.user.contents={{{contents}}}", MODEL.format(prefix), *more], kinds=KINDS)


def test_a_preference_is_embedded_as_texts_of_items_are(world: Path):
    experiment = loaded(world, "[user, taste]", TASTE, RANDOM)
    said = PreferenceEncoder("the run", experiment)
    for text in ("red shoes", "blue hats"):
        name, vector = said.vector(text)
        assert name == "content_taste_user"
        np.testing.assert_array_equal(vector, RandomVectors(6).encode([text]).vectors[0])


@pytest.mark.parametrize(
    ("prefix", "contents", "more", "text", "told"),
    [
        ("[user]", TASTE, [RANDOM], "red", "has no content of the user in model.history.prefix that a text could be"),
        ("[taste, mood]", f"{TASTE}, {OTHER}", [RANDOM], "red", "has several such contents in model.history.prefix: taste, mood"),
        ("[taste]", TASTE, ["text.vectors=none"], "red", "has none embedded (text.vectors: none)"),
        ("[taste]", TASTE, ["text={dimension: 6, reduction: pca}"], "red", "would be reduced by components that were fitted on other texts"),
        ("[taste]", TASTE, [RANDOM], "  ", "--preference: is empty"),
        ("[taste]", TASTE, ["text={vectors: random, dimension: 7}"], "red", "becomes a vector of 7, and `taste` of the run has 6"),
    ],
)  # fmt: skip
def test_a_preference_that_means_nothing_is_refused(world, prefix, contents, more, text, told):
    experiment = loaded(world, prefix, contents, *more)
    with pytest.raises(UserError, match=re.escape(told)):
        PreferenceEncoder("the run", experiment).vector(text)


def test_what_a_prefix_is_made_of_is_read_of_users(world: Path):
    def columns(prefix: str) -> dict[str, bool]:
        experiment = loaded(world, prefix, TASTE.replace("clicks", "liking"), RANDOM)
        return {need.name: need.optional for need in user_needs(experiment)}

    always = {"user": False, "history": False}
    assert columns("[]") == always
    assert columns("[user]") == always | {"clicks": False, "liking": False}
    assert columns("[user, taste]") == always | {"clicks": False, "liking": True}
    assert columns("[query]") == always | {"query": True, "query_vector": True, "intent": True}
    said = loaded(world, "[user, mood]", "mood: {text: '{segment}'}", RANDOM)
    assert {need.name: need.optional for need in user_needs(said)} == always | {"clicks": False, "mood": True}
    experiment = loaded(world, "[query]", TASTE, RANDOM)
    assert domain_of_users(experiment) == "find"
    assert {need.name for need in prefix_needs(experiment, "home")} == set()
    with pytest.raises(UserError, match="has no content of the user"):
        check_preference("red", "the run", experiment)
