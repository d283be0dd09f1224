"""Which columns of users a conditioning prefix looks at."""

from dataclasses import replace

from ..arrow.column_need import ColumnNeed
from ..arrow.column_types import TEXT
from ..config.experiment import Experiment
from ..content_kinds.text import Text
from .column_needs import needed_columns


def prefix_needs(experiment: Experiment, domain: str) -> list[ColumnNeed]:
    """The columns of a domain's events that the places of the prefix are made of, and those with the texts of users whom the catalog does not know, each called
    as the content is. What a user need not have is optional: a query, features of the event, and a content that is a place by itself."""
    prefix, user = experiment.model.prefix, experiment.entities.user
    required, optional = list[str](), list[str]()
    if "user" in prefix:
        required += [f"entities.user.features.{name}" for name in user.features]
        required += [f"entities.user.{user.place_of(name)}" for name in user.every_content() if name not in prefix]
    optional += [f"entities.user.{user.place_of(name)}" for name in user.every_content() if name in prefix]
    if "query" in prefix and (query := experiment.entities.query) is not None:
        optional += ["entities.query.id", *(f"entities.query.features.{name}" for name in query.features)]
        optional += [f"entities.query.{query.place_of(name)}" for name in query.every_content()]
    optional += [
        f"context.{name}" for name, feature in experiment.context.items() if "context" in prefix and not feature.bias
    ]
    for name, feature in experiment.domains[domain].features.items():
        if (feature.entity or "context") in prefix and not feature.bias:
            (required if feature.entity == "user" else optional).append(f"domains.{domain}.features.{name}")
    needs = needed_columns(experiment, domain, with_labels=False)
    found = [
        replace(need, optional=need.optional or need.field in optional)
        for need in needs
        if need.field in (*required, *optional)
    ]
    return found + [
        ColumnNeed(name, TEXT, f"entities.user.{user.place_of(name)}", optional=True)
        for name in text_places(experiment)
    ]


def text_places(experiment: Experiment) -> list[str]:
    """The places of the prefix that are texts of the user catalog."""
    contents = experiment.entities.user.every_content()
    return [name for name in experiment.model.prefix if isinstance(contents.get(name), Text)]
