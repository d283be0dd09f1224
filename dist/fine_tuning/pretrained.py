"""The run that a fine-tuning begins with: whether it fits, checked before any work."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.codes.code_store import identities, inputs_asked
from ...data.config.experiment import Experiment
from ...data.config.kinds import kinds_of
from ...data.config.sections.entities import OTHER_ASPECTS, Stored
from ...data.config.sections.task import alike
from ...data.content_kinds.codes import Codes
from ...data.content_kinds.content import Embedded
from ...data.content_kinds.vector import Vector
from ...data.counting.statistics import Statistics
from ...data.errors import UserError
from ...data.schema.layout import Layout
from ...data.storage.mirror import mirrored
from ..run.kept_checkpoints import best_of_members
from ..run.new_run import differences
from ..run.run_folder import fetch_run, id_types_of, open_run
from .domain_profiles import mixture

# What may change from one to the other; all else of `model` decides the shape or the meaning of weights.
_MAY_CHANGE = {
    *("id_dropout", "hide_rare_items", "unknown_id", "id_from_text"),
    *("bias_dropout", "alignment", "alignment_weight", "next_item", "similarity"),
}
# Of `text`: where vectors are and how fast they are made is no matter, what they mean is.
_TEXT = ("vectors", "encoder", "revision", "max_length", "pooling", "normalize", "dimension", "reduction")


@dataclass(frozen=True)
class Pretrained:
    """A run to begin with: its folder, experiment, statistics and layout."""

    run: Path
    experiment: Experiment
    statistics: Statistics
    layout: Layout

    def mixtures(self, layout: Layout, statistics: Statistics) -> dict[str, dict[str, float]]:
        """New domain -> domain of this run -> how much of it the new one begins as."""
        known = dict(zip(self.layout.domains, self.layout.search, strict=True))
        profiles = statistics.profiles | self.statistics.profiles
        return {
            name: mixture(name, search, profiles, known)
            for name, search in zip(layout.domains, layout.search, strict=True)
            if name not in known
        }


def pretrained(experiment: Experiment) -> Pretrained:
    """The run that an experiment's ``init_from`` names.

    Raises:
        UserError: it is no run, has no checkpoint, or is one of another model or text encoder: the differences are listed.
    """
    assert experiment.init_from is not None
    run = mirrored(experiment.init_from, "read")
    base, statistics = open_run(run, kinds_of(experiment))
    best_of_members(run)
    changed = list(differences(_meaning(base), _meaning(experiment)))
    changed += differences(
        _contents(base, experiment, statistics.codes), _contents(experiment, base, identities(experiment))
    )
    if changed:
        raise UserError(
            f"init_from: {run}",
            f"is a run of another model ({'; '.join(changed[:5])}{'; ...' if len(changed) > 5 else ''})",
            "Give both experiments the same `model` and `text`; dropout, alignment, next_item, the prefix and weights of losses may differ, and contents may be added.",
        )
    learned = {name: task for domain in base.domains.values() for name, task in domain.tasks.items()}
    for name, task in ((name, task) for domain in experiment.domains.values() for name, task in domain.tasks.items()):
        if name in learned and not alike(task, learned[name]):
            raise UserError(
                f"init_from: {run}",
                f"has a task '{name}' of another kind, or with other settings",
                "Rename the task here, which then begins untrained, or make it what it was there.",
            )
    for name, domain in experiment.domains.items():
        if domain.events.train is None and name not in base.domains:
            what = f"has no domain '{name}', which has no training events here either"
            raise UserError(
                f"init_from: {run}", what, f"Name its events as domains.{name}.events.train, or leave it out."
            )
    if experiment.init_optimizer:
        _check_optimizers(run, base, experiment)
    return Pretrained(run, base, statistics, statistics.layout(base))


def _check_optimizers(run: Path, base: Experiment, experiment: Experiment) -> None:
    """Raises a UserError where the state of a run's optimizers means nothing to those of an experiment."""
    then, now = base.training, experiment.training
    what = None
    if type(then.optimizer) is not type(now.optimizer):
        what = f"was trained by {then.optimizer.kind}, and training.optimizer is {now.optimizer.kind}"
    elif then.sparse_optimizer != now.sparse_optimizer:
        what = f"had tables trained by {then.sparse_optimizer}, and training.sparse_optimizer is {now.sparse_optimizer}"
    elif then.freeze:
        what = f"had {', '.join(then.freeze)} frozen, which its optimizers' state would keep so"
    if what is not None:
        remedy = "Give both experiments the same optimizers and begin with a run without freeze, or leave out init_optimizer."
        raise UserError(f"init_from: {run}", what, remedy)


def _meaning(experiment: Experiment) -> dict[str, Any]:
    """What both must agree in; contents that one of them has are new, or go."""
    model = {name: value for name, value in experiment.model.model_dump().items() if name not in _MAY_CHANGE}
    model["aspects"] = tuple(aspect for aspect in model["aspects"] if aspect in OTHER_ASPECTS)
    for part in ("history", "head"):
        for name in ("dropout", "prefix", "prefix_dropout"):  # places of a prefix are parameters of their own
            model[part].pop(name, None)
    text = {name: getattr(experiment.text, name) for name in _TEXT}
    return {"model": model | {"id_from_text": experiment.model.id_from_text > 0}, "text": text}


def _contents(experiment: Experiment, of_other: Experiment, codes: Mapping[str, str]) -> dict[str, Any]:
    """What vectors mean of contents that another experiment has too, under the place where they are described; ``codes`` are the
    identities of those that the model reads."""
    found, others = {}, of_other.entities.present()
    for entity, config in experiment.entities.present().items():
        there = others[entity].every_content() if entity in others else {}
        for name, content in config.every_content().items():
            other, place = there.get(name), f"entities.{entity}.{config.place_of(name)}"
            if isinstance(content, Vector) and isinstance(other, Vector):
                found[f"{place}.size"] = content.size
            elif isinstance(content, Embedded) and isinstance(other, Embedded):
                found[place] = None if content.own_encoder is None else _meaning_of(content.own_encoder.asked())
            elif isinstance(content, Codes) and isinstance(other, Codes):
                of = Stored(entity, name)
                made = None if content.codes.portable else codes.get(of.name)
                asked = {key: value for key, value in content.codes.asked().items() if key != "path"}
                found[place] = (
                    asked | inputs_asked(experiment, of, content) | ({} if made is None else {"made": made[:12]})
                )
            elif other is not None:
                found[f"{place}.kind"] = content.kind
    return found


def _meaning_of(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Of what an encoder is asked: not which inputs it is given, nor how."""
    return {name: value for name, value in asked.items() if name in _TEXT}


def held_id_types(run: Path, experiment: Experiment) -> dict[str, str]:
    """What ids must be where a training goes on in ``run``, or begins with another run.

    Raises:
        UserError: the run to begin with is none.
    """
    fetch_run(run)
    held = id_types_of(run)
    return held or (pretrained(experiment).statistics.id_types if experiment.init_from is not None else {})
