"""What a job that recommends is given: the job, and what its run and its input must have."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...data.arrow.column_need import ColumnNeed
from ...data.arrow.column_types import SCALAR_ID
from ...data.catalogs.catalog_files import known_id_types
from ...data.config.experiment import Experiment
from ...data.config.sections.bad_data import BadDataConfig
from ...data.errors import UserError
from ...data.events.event_files import EventFiles, check_columns, list_events
from ...data.events.listed_ids import listed_keys
from ...data.schema.column_needs import IdTypes, history_needs, needed_columns, time_of_events
from ...data.schema.layout import id_key
from ...data.schema.prefix_needs import prefix_needs
from ...data.storage.file_systems import Location
from ...data.storage.globs import parquet_below
from ...data.storage.mirror import mirrored
from ..embed.preference import check_preference
from ..retrieval.protocol import Protocol
from ..retrieval.search import faiss_module
from ..retrieval.slate import Slate
from ..run.kept_checkpoints import best_of_members, identity
from ..run.run_folder import id_types_of, items_kept, open_experiment
from .hive_columns import HiveColumns
from .kept_columns import check_names_apart
from .work_list import WorkList, planned_parts
from .writing import Writing


@dataclass(frozen=True)
class RecommendJob:
    """What is to be recommended to whom.

    Attributes:
        run: the run folder whose best checkpoint recommends, or its URI; it has learned ``model.next_item``.
        source: a Parquet file, a folder of them, or a glob, with the user's id and history, and what the experiment names beside
            it; or a URI of such.
        out: folder of the recommendations, or its URI.
        k: items per user.
        repeat: whether past items are recommended too; None: where the run's ``model.next_item.repeat`` says so.
        approximate: searches through FAISS, which may miss some of the best.
        domain: whose items alone are recommended, those of its training events; None: all there are.
        items: a Parquet file, a folder of them, or a glob, or a URI of such, with the ids of the items that alone are recommended; None: all.
        width: as of `Protocol`.
        slate: how the best items are put into a list; None: by their scores.
        alike: content of items that says how alike two of them are; None: what the run looks for items by.
        preference: in words, what all these users are to be taken to prefer, in place of what their column has; None: nothing is said.
        rows_of: domain as whose rows users are read, as of `domain_of_users`; None: ``domain``.
    """

    run: Location
    source: str
    out: Location
    k: int = 100
    repeat: bool | None = None
    approximate: bool = False
    domain: str | None = None
    items: str | None = None
    width: int | None = None
    slate: Slate | None = None
    alike: str | None = None
    preference: str | None = None
    rows_of: str | None = None
    policy: BadDataConfig = field(default_factory=BadDataConfig)  # a user of whom nothing can be read is an error
    writing: Writing = field(default_factory=Writing)

    @property
    def protocol(self) -> Protocol:
        """Which items take part."""
        return Protocol(self.repeat, domain=self.domain, width=self.width, slate=self.slate, alike=self.alike)

    @property
    def read_as(self) -> str | None:
        """The domain as whose rows users are read, where one is named."""
        return self.rows_of or self.domain

    @property
    def folder(self) -> Path:
        """Where this machine has the run folder."""
        return mirrored(self.run, "read")


def plan_recommendations(job: RecommendJob, claims: bool) -> WorkList:
    """Checks the input and the output folder, which is made where the job ``claims`` it, and names the parts.

    Raises:
        UserError: no run, one without a next-item objective, no input, input that lacks a column, an output folder that
            cannot be made or holds something else, or FAISS is asked for and not there.
    """
    if job.approximate:
        faiss_module()
    experiment = open_experiment(job.folder)
    checkpoints = best_of_members(job.folder)
    check_retrieves(job.run, experiment, job.domain, job.approximate)
    training_events(job, experiment)
    if job.preference is not None:
        check_preference(job.preference, job.run, experiment)
    files = list_events(parquet_below(job.source), "the users to recommend to", job.policy)
    types = known_id_types(experiment, id_types_of(job.folder))
    files = check_columns(files, user_needs(experiment, job.read_as), job.policy, types)
    check_names_known(job.run, experiment, types)
    passed_on = {experiment.entities.user.id: "entities.user.id"}
    claimed = {"checkpoint": identity(checkpoints), "k": job.k, "repeat": job.protocol.repeats(experiment)}
    claimed |= {"approximate": job.approximate}
    claimed |= {name: value for name in ("domain", "width", "preference") if (value := getattr(job, name)) is not None}
    claimed |= {} if job.slate is None else asdict(job.slate) | {"alike": job.alike}
    if (among := listed_items(job, experiment)) is not None:
        claimed |= {"items": hashlib.sha256(np.unique(among).tobytes()).hexdigest()}
    return planned_parts(job, claimed, files, HiveColumns({}), experiment, passed_on, {}, claims)


def listed_items(job: RecommendJob, experiment: Experiment) -> NDArray[np.uint64] | None:
    """Keys ``[N]`` uint64 of the items that alone are recommended; None where all are.

    Raises:
        UserError: no such file, or one without a column of the items' ids, or with ids of another type than the run's.
    """
    if job.items is None:
        return None
    types = known_id_types(experiment, id_types_of(job.folder))
    return listed_keys(job.items, "--items", "item", experiment.entities.item.id, job.policy, types)


def training_events(job: RecommendJob, experiment: Experiment) -> EventFiles | None:
    """The training events of the domain whose items alone are recommended; None where all are, or the run has kept the domain's.

    Raises:
        UserError: no such domain, or its training events are not there any more.
    """
    job.protocol.check(experiment, job.run)
    if job.domain is None or job.domain in items_kept(job.folder):
        return None
    pattern, field = experiment.domains[job.domain].events.train, f"{job.run}: domains.{job.domain}.events.train"
    if pattern is None:
        raise UserError(field, "is not there: the run had no events of this domain", "Leave out --domain.")
    return list_events(pattern, field, experiment.bad_data)


def check_retrieves(run: Location, experiment: Experiment, domain: str | None, approximate: bool = False) -> None:
    """Makes sure that a run has learned to find items for users, among all or those of a ``domain``, and as asked.

    Raises:
        UserError: it has not, or only within domains and none is named, domains disagree about the time of an event, or the user's id has the name of a column that is written.
    """
    if experiment.model.next_item is None:
        raise UserError(
            run,
            "was not trained to predict the next item",
            "Train with model.next_item; `foundrank score` scores pairs that you name.",
        )
    if Protocol(domain=domain).within_domains(experiment):
        raise UserError(
            "--domain",
            f"is not given, and {run} was trained with candidates: domain, so scores of items of different domains say nothing of each other",
            f"Name one of: {', '.join(domains_with_users(experiment))}.",
        )
    if approximate and experiment.model.target is not None:
        what = f"searches an index of vectors, and {run} finds items by their codes"
        raise UserError("--approximate", what, "Leave it out.")
    times = {name: time_of_events(experiment, name) for name in domains_with_users(experiment)}
    if len(set(times.values())) > 1:
        found = ", ".join(f"{name}: {time or 'none'}" for name, time in times.items())
        raise UserError(
            f"{run}: entities.user.history.time",
            f"is not set, and domains compare the times of past items with different columns ({found}), so a user has no time of its own",
            "Name one column there that all events have, and train again.",
        )
    check_names_apart({experiment.entities.user.id: "entities.user.id"}, ("items", "scores"))


def check_names_known(run: Location, experiment: Experiment, types: IdTypes) -> None:
    """Makes sure that items can be named by their ids.

    Raises:
        UserError: these are strings, and no catalog has them.
    """
    if experiment.entities.item.catalog is None and types.get(id_key("item"), ("", ""))[0] == "string":
        raise UserError(
            f"{run}: entities.item",
            "has ids that are strings and no catalog, so their names are no longer known",
            "Train with a catalog that has one row per item.",
        )


def user_needs(experiment: Experiment, asked: str | None = None) -> list[ColumnNeed]:
    """The user's id and history first, then what the model looks at beside them: domains, times, the time of the event, and what stands
    before the past; a query and a content of the user by itself may be left out. ``asked`` is as of `domain_of_users`."""
    user = experiment.entities.user
    assert user.history is not None  # a next-item objective needs one
    needs = [ColumnNeed(user.id, SCALAR_ID, "entities.user.id"), *history_needs(experiment, user.history)]
    domain = domain_of_users(experiment, asked)
    if (time := time_of_events(experiment, domain)) is not None and time != user.history.time:
        needs += [need for need in needed_columns(experiment, domain, with_labels=False) if need.name == time][:1]
    known = {need.name for need in needs}
    return needs + [need for need in prefix_needs(experiment, domain) if need.name not in known]


def domains_with_users(experiment: Experiment) -> list[str]:
    return [name for name, domain in experiment.domains.items() if domain.users]


def domain_of_users(experiment: Experiment, asked: str | None = None) -> str:
    """The domain as whose rows users are read: the one ``asked`` for, whose own features may be before their past, where it has users. Else the first
    with users, and where queries are before their past, the first that has them."""
    with_users = domains_with_users(experiment)
    if asked in with_users:
        return str(asked)
    searched = [name for name in with_users if not experiment.domains[name].lacks("query")]
    return (searched if searched and "query" in experiment.model.prefix else with_users)[0]
