"""What the places of a conditioning prefix need of the rest of an experiment."""

from collections.abc import Collection, Mapping
from pathlib import Path

from ...errors import UserError, nearest
from ...features.feature import Feature
from .domains import DomainConfig
from .entities import EntitiesConfig, Stored
from .model import ModelConfig

OWNERS = ("user", "query", "context")
"""Places that are an entity, or the features of the event; all others are a content of the user."""


def check_prefix(
    model: ModelConfig,
    entities: EntitiesConfig,
    domains: Mapping[str, DomainConfig],
    context: Mapping[str, Feature],
    without_vectors: Collection[Stored],
    path: str | Path,
) -> None:
    """Makes sure that each place of ``model.history.prefix`` can be there.

    Args:
        model: the network.
        entities: of the experiment.
        domains: of the experiment.
        context: features of the event.
        without_vectors: contents that have none.
        path: of the experiment's file.

    Raises:
        UserError: one is no place, is named twice, or there is nothing that it could be made of.
    """
    query, contents = entities.query, entities.user.every_content()
    of_domains = {f.entity for domain in domains.values() for f in domain.features.values()}

    def read(entity: str, name: str) -> bool:
        return Stored(entity, name) not in without_vectors and model.reads(entity, name)

    for number, name in enumerate(model.prefix):
        where = f"{path}: model.history.prefix.{number}"
        if name not in (*OWNERS, *contents):
            what = f"'{name}' is none of {', '.join(OWNERS)}, and no content of entities.user"
            raise UserError(where, what, nearest(name, [*OWNERS, *contents]))
        if name in model.prefix[:number]:
            raise UserError(where, f"is '{name}', which is there already", "Name it once.")
        if name == "user":
            others = any(read("user", content) for content in contents if content not in model.prefix)
            if not (entities.user.features or "user" in of_domains or others):
                what = "is 'user', which has neither features nor contents beside those that are places themselves"
                raise UserError(where, what, "Describe some under entities.user, or take it out.")
        elif name == "query":
            if query is None or all(domain.lacks("query") for domain in domains.values()):
                what = "is 'query', and " + ("no domain is a search domain" if query else "entities.query is missing")
                raise UserError(where, what, "Take it out, or describe where queries are.")
            if not (query.features or "query" in of_domains or any(read("query", c) for c in query.every_content())):
                what = "is 'query', which has neither features nor contents"
                raise UserError(where, what, "Describe some under entities.query, or take it out.")
        elif name == "context":
            every = [
                *context.values(),
                *(f for domain in domains.values() for f in domain.features.values() if f.entity is None),
            ]
            if all(feature.bias for feature in every):
                what = "is 'context', and events have no features but those with bias: true"
                raise UserError(where, what, "Describe some under context, or take it out.")
        elif not read("user", name):
            what = f"is '{name}', a text that has no vectors (text.vectors: none)"
            raise UserError(where, what, "Take it out, or set text.vectors: llm.")
