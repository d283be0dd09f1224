"""What one section of an experiment alone cannot know: whether its parts go together."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..content_kinds.codes import OfVectors
from ..errors import UserError, nearest
from ..features.feature import Feature
from .experiment import Experiment
from .sections.entities import OTHER_ASPECTS, TEXT
from .sections.next_item import ITEM
from .sections.task import Task, alike


def check_parts(experiment: Experiment, path: str | Path) -> None:
    """What one section alone cannot know."""
    entities = experiment.entities
    _check_aspects(experiment, path)
    _check_sequences(experiment, path)
    for name in experiment.only:
        if name not in experiment.domains:
            raise UserError(f"{path}: only", f"'{name}' is not one of the domains", nearest(name, experiment.domains))
    if experiment.training.freeze and experiment.init_from is None:
        raise UserError(
            f"{path}: training.freeze",
            "freezes what was never trained",
            "Say with init_from which run to fine-tune, or remove `freeze`.",
        )
    if not experiment.training.epochs and experiment.init_from is None:
        what = "is 0, and there is no run to begin with"
        raise UserError(f"{path}: training.epochs", what, "Set more, or name a run with init_from.")
    if "L0" in experiment.training.freeze and experiment.training.sparse_optimizer != "rowwise_adagrad":
        raise UserError(
            f"{path}: training.freeze",
            f"has L0, the tables, where new ids learn and known ones stay, which {experiment.training.sparse_optimizer} cannot do",
            "Use training.sparse_optimizer rowwise_adagrad, or do not freeze L0.",
        )
    for place, name, feature in _features(experiment):
        if feature.entity is not None and not place.startswith("domains."):
            raise UserError(
                f"{path}: {place}.{name}.entity",
                "says what a feature of a domain belongs to; this one belongs to where it stands",
                "Remove it.",
            )
    learns = any(domain.events.train is not None for domain in experiment.domains.values())
    if not learns and experiment.init_from is not None and not experiment.init_optimizer:  # else it forgets ids
        what = "have no training events, none of them"
        raise UserError(f"{path}: domains", what, "Name those of one as events.train.")
    for name, domain in experiment.domains.items():
        if domain.events.train is None and experiment.init_from is None:
            raise UserError(
                f"{path}: domains.{name}.events.train",
                "'train' is required and missing",
                "Name the events to learn from.",
            )
        if domain.kind == "search" and entities.query is None:
            raise UserError(
                f"{path}: domains.{name}.kind",
                "is 'search', but entities.query is missing",
                "Describe the query entity, or write kind: recommendation.",
            )
        for feature_name, feature in domain.features.items():
            where = f"{path}: domains.{name}.features.{feature_name}"
            if feature.source == "catalog":
                raise UserError(
                    where,
                    "has source: catalog",
                    "A domain's own features come from its events; put catalog features under entities.",
                )
            if feature.entity == "user" and not domain.users:
                raise UserError(
                    where,
                    "belongs to the user, but the domain has users: false",
                    "Remove it, or choose another entity.",
                )
            if feature.entity == "query" and entities.query is None:
                raise UserError(
                    where,
                    "belongs to the query, but entities.query is missing",
                    "Describe the query entity or choose another entity.",
                )
    for name, feature in experiment.context.items():
        if feature.source == "catalog":
            raise UserError(
                f"{path}: context.{name}",
                "has source: catalog",
                "Context features come from the events; put catalog features under entities.",
            )
    _check_bias(experiment, path)
    _check_list_losses(experiment, path)
    _check_compile(experiment, path)
    _check_codes(experiment, path)
    _check_shared_tasks(experiment, path)
    _check_weighted_metrics(experiment, path)
    _check_parents(experiment, path)
    _check_shared_names(experiment, path)


def _check_aspects(experiment: Experiment, path: str | Path) -> None:
    known = dict.fromkeys((*OTHER_ASPECTS, TEXT, *experiment.entities.content_names()))
    for number, name in enumerate(experiment.model.aspects):
        if name not in known:
            raise UserError(
                f"{path}: model.aspects.{number}",
                f"'{name}' is neither id nor sparse nor a content of an entity",
                nearest(name, known),
            )
    if not experiment.aspects_in_use():
        names = " and ".join(experiment.model.aspects)
        raise UserError(
            f"{path}: text.vectors", f"is 'none', and model.aspects is {names} alone", "Add another aspect."
        )


def _check_bias(experiment: Experiment, path: str | Path) -> None:
    """A feature with ``bias`` says where a row was shown: nothing that an item or a user is, and nothing without a label."""
    for place, name, feature in _features(experiment):
        if not feature.bias:
            continue
        field = f"{path}: {place}.{name}.bias"
        if place.startswith("entities.") or feature.entity is not None:
            owner = feature.entity or place.split(".")[1]
            raise UserError(
                field,
                f"is true, but the feature belongs to {'the ' * (owner != 'context')}{owner}",
                "Put what is not known at scoring, such as the position, under `context` or a domain's `features`, without `entity`.",
            )
        if not any(domain.tasks for domain in experiment.domains.values()):
            raise UserError(field, "has no effect without a task", "Remove the feature, or name a label to predict.")


def _check_sequences(experiment: Experiment, path: str | Path) -> None:
    """What encoders of the history and the next-item objective need."""
    model, history = experiment.model, experiment.entities.user.history
    if history is None and model.past:
        raise UserError(
            f"{path}: model.history.encoder",
            f"is '{model.history.encoder}', but rows have no history",
            "Describe it under entities.user.history, or leave the encoder at mean.",
        )
    if model.past_times and history is not None and history.times is None:
        raise UserError(
            f"{path}: model.history.time_bias",
            "needs to know when past items were",
            "Name the events column with their times as entities.user.history.times.",
        )
    if model.next_item is not None and not any(domain.users for domain in experiment.domains.values()):
        raise UserError(
            f"{path}: model.next_item",
            "finds what users take next, and no domain has any",
            "Remove it, or `users: false` where the events name the user.",
        )
    _check_past_features(experiment, path)
    for name, domain in experiment.domains.items():
        if not domain.tasks and model.next_item is None:
            raise UserError(
                f"{path}: domains.{name}.tasks",
                "is empty, so there is nothing to learn",
                "Name at least one label, or add model.next_item.",
            )


def _check_codes(experiment: Experiment, path: str | Path) -> None:
    """Codes are made of vectors that there are, and a target is codes."""
    item, model, target = experiment.entities.item, experiment.model, experiment.model.target
    codes = item.codes()
    for name, content in codes.items():
        field, inputs = f"{path}: entities.item.contents.{name}.codes", experiment.inputs_of(content)
        if isinstance(content.codes, OfVectors):
            fit = {of.content for of in experiment.stored() if of.entity == "item"} | item.given(in_catalog=True).keys()
            for other in set(inputs) - fit:
                remedy = nearest(other, fit)
                raise UserError(f"{field}.of", f"'{other}' has no vectors in a store or a catalog", remedy)
            if not inputs and content.codes.run is None:
                remedy = "Give the item a text or a vector, or use another method."
                raise UserError(field, f"is {content.codes.method}, made of vectors, and items have none", remedy)
    others = [aspect for aspect in experiment.aspects_in_use() if aspect not in codes]
    pooled = experiment.entities.user.history is not None and not model.past
    if codes and pooled and not (set(others) & {"id", *item.every_content()}):
        what = f"is {model.history.encoder}, a mean of past items, which has no codes, and items have nothing else"
        raise UserError(f"{path}: model.history.encoder", what, "Use din, sasrec, bert4rec or hstu, or add an aspect.")
    if model.gate.kind == "none" and any(model.uses(name) for name in codes):
        remedy = "Use another gate."
        raise UserError(
            f"{path}: model.gate", "is none, which puts numbers side by side, and codes are no numbers", remedy
        )
    if not experiment.keeps_ids() and model.attention_table:
        what = "is a second table of ids, and model.aspects has no id"
        raise UserError(f"{path}: model.history.decoupled", what, "Leave it out.")
    if target is not None and target not in codes:
        what = f"'{target}' is neither item nor a content of items that is codes"
        raise UserError(f"{path}: model.next_item.target", what, nearest(target, {ITEM, *codes}))
    if target is not None and experiment.seeds > 1:
        what = f"is {experiment.seeds}, whose mean is one of vectors, and model.next_item.target is codes"
        raise UserError(f"{path}: seeds", what, "Set seeds: 1.")


def _check_compile(experiment: Experiment, path: str | Path) -> None:
    """One graph holds for batches of one shape."""
    losses = (task.list_loss for domain in experiment.domains.values() for task in domain.tasks.values())
    listed = any(loss is not None for loss in losses)
    if experiment.training.compile and (experiment.model.past or listed):
        changing = "model.history.encoder" if experiment.model.past else "a list_loss"
        raise UserError(
            f"{path}: training.compile",
            f"is true, and what {changing} computes changes its shape with the batch",
            "Leave it out.",
        )


def _check_past_features(experiment: Experiment, path: str | Path) -> None:
    """Past items have those features that the catalog knows of any item."""
    item, field = experiment.entities.item, f"{path}: model.history.features"
    fit = {name for name, feature in item.features.items() if item.comes_from_catalog(feature)}
    if experiment.model.past_features and "sparse" not in experiment.aspects_in_use():
        raise UserError(
            field, "has no part without the sparse aspect", "Add sparse to model.aspects, or name no features."
        )
    for name in experiment.model.past_features:
        if name in fit and item.features[name].inputs(name).weighted:
            raise UserError(
                field,
                f"'{name}' has weights, which past items cannot have",
                "Leave it out, or name a list without weights.",
            )
        if name not in fit:
            raise UserError(field, f"'{name}' is not a feature from the item catalog", nearest(name, fit))


def _check_list_losses(experiment: Experiment, path: str | Path) -> None:
    """A list loss looks at lists, and orders them by one number."""
    for name, domain in experiment.domains.items():
        for task_name, task in domain.tasks.items():
            field = f"{path}: domains.{name}.tasks.{task_name}.list_loss"
            if task.list_loss is not None and domain.list_column is None:
                raise UserError(
                    field,
                    f"is a loss of whole lists, and domains.{name} does not say which rows make a list",
                    f"Name the events column that does as domains.{name}.list_column, or remove it.",
                )
            if task.list_loss is not None and task.parent is not None:
                raise UserError(
                    field,
                    f"orders rows by the model's output, which is given {task.parent}, while scores are the product of both",
                    "Remove it, or put it on a task that is given nothing.",
                )
            if task.list_loss is not None and not task.ranks_by_first:
                raise UserError(
                    field,
                    "orders rows by one output of the model, and a task of this kind has several that make its score together",
                    "Remove it, or give it to a task of another kind on the same column.",
                )


def _check_shared_tasks(experiment: Experiment, path: str | Path) -> None:
    """A task's name means one column of logits: in all domains that have it it is the same, but for its columns."""
    seen: dict[str, tuple[str, Task]] = {}
    for name, domain in experiment.domains.items():
        for task_name, task in domain.tasks.items():
            first, other = seen.setdefault(task_name, (name, task))
            if not alike(task, other):
                raise UserError(
                    f"{path}: domains.{name}.tasks.{task_name}",
                    f"is not the task of that name in domains.{first}: it is of another kind, or has other settings",
                    f"Rename one; what may differ between domains is {', '.join(sorted(task.of_domain))}.",
                )


def _check_parents(experiment: Experiment, path: str | Path) -> None:
    """What a task is given is another task of the domain, of the same kind, and not in the end itself."""
    for name, domain in experiment.domains.items():
        for task_name, task in domain.tasks.items():
            field, before = f"{path}: domains.{name}.tasks.{task_name}.given", [task_name]
            while (parent := domain.tasks[before[-1]].parent) is not None:
                if parent not in domain.tasks:
                    remedy = nearest(parent, set(domain.tasks) - {task_name})
                    raise UserError(field, f"'{parent}' is not a task of this domain", remedy)
                if type(domain.tasks[parent]) is not type(task):
                    raise UserError(
                        field, f"'{parent}' is a task of another kind", "Give it one whose label is 0 or 1."
                    )
                if parent in before:
                    raise UserError(
                        field, f"goes in a circle: {' given '.join([*before, parent])}", "Let one come first."
                    )
                before.append(parent)


def _check_weighted_metrics(experiment: Experiment, path: str | Path) -> None:
    for name, domain in experiment.domains.items():
        for task_name, task in domain.tasks.items():
            if domain.weighs_metrics_of(task_name) and not task.weighted:
                raise UserError(
                    f"{path}: domains.{name}.weighted_metrics",
                    f"is true, but metrics of task '{task_name}' take no weights",
                    "Leave it false; losses are weighted all the same.",
                )


def _check_shared_names(experiment: Experiment, path: str | Path) -> None:
    """A feature name means one table: wherever it comes back it must be the same kind of thing."""
    seen: dict[str, tuple[str, dict[str, Any]]] = {}
    for place, name, feature in _features(experiment):
        in_domain, meaning = place.startswith("domains."), feature.meaning()
        if name in seen and (not in_domain or not seen[name][0].startswith("domains.") or seen[name][1] != meaning):
            raise UserError(
                f"{path}: {place}.{name}",
                f"the name is already used in {seen[name][0]} for another feature",
                "Rename one; only domains may share a feature, with the same kind, entity and settings.",
            )
        seen.setdefault(name, (place, meaning))


def _features(experiment: Experiment) -> Iterator[tuple[str, str, Feature]]:
    """Every feature: where it is described, its name, and it."""
    places = [(f"entities.{e}.features", c.features) for e, c in experiment.entities.present().items()]
    places += [("context", experiment.context)]
    places += [(f"domains.{d}.features", c.features) for d, c in experiment.domains.items()]
    yield from ((place, name, feature) for place, features in places for name, feature in features.items())
