"""Everything about the data that can be known to be wrong before any work starts."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ..arrow.column_types import VECTOR, is_unsigned
from ..catalogs.catalog_files import known_id_types
from ..config.experiment import Experiment
from ..config.sections.domains import SPLITS
from ..errors import UserError
from ..schema.column_needs import needed_columns
from ..schema.groups import group_needs
from .check_values import check_values, check_vectors
from .event_files import EventFiles, check_columns, list_events, open_parquet


def check_events(
    experiment: Experiment,
    splits: Sequence[str] = SPLITS,
    values: bool = True,
    held: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, dict[str, EventFiles]]:
    """Checks the files, columns, types, labels and vectors of every domain, and the columns of the catalogs.

    Args:
        experiment: whose events they are.
        splits: which of them.
        values: whether labels and vectors are looked at too, which takes time.
        held: embedding table -> what its ids are, of the run that reads the events; `Statistics.id_types`.

    Returns:
        domain -> split -> its files, for the splits the domain has; no file to learn from, of one that has none.

    Raises:
        UserError: a glob without a file, an unreadable file, a missing or mistyped column, a domain without
            training rows, a label outside {0, 1}, or ids of one entity that are integers here and strings there.
    """
    events: dict[str, dict[str, EventFiles]] = {}
    policy = experiment.bad_data
    types = known_id_types(experiment, held)
    for name, domain in experiment.domains.items():
        events[name] = {}
        needs = needed_columns(experiment, name)
        for split in splits:
            pattern = getattr(domain.events, split)
            if pattern is None:
                if split == "train":
                    events[name][split] = EventFiles((), ())
                continue
            field = f"domains.{name}.events.{split}"
            every = [*needs, *group_needs(experiment, name)] if split == "train" else needs
            files = check_columns(list_events(pattern, field, policy), every, policy, types)
            if split == "train" and files.rows == 0:
                raise UserError(
                    field,
                    f"the {len(files.files)} file(s) matching '{pattern}' hold no rows",
                    "Remove the domain or give it events.",
                )
            if values and not policy.skips:
                check_values(files, needs)
                check_vectors(files, [need for need in needs if need.holds == VECTOR])
            events[name][split] = files
    return events


def id_types(experiment: Experiment, train: Mapping[str, EventFiles]) -> dict[str, str]:
    """Embedding table -> ``string`` or ``integer``, what its ids are in training events and catalogs; not where all are null."""
    types = known_id_types(experiment, {})
    for name, files in train.items():
        needs = [need for need in needed_columns(experiment, name) if need.table]
        check_columns(files, needs, experiment.bad_data, types)
    return {table: family for table, (family, _) in types.items()}


def unsigned_ids(experiment: Experiment, train: Mapping[str, EventFiles]) -> list[str]:
    """Embedding tables whose ids are integers of 64 bits without a sign in some file of the training events."""
    found = set()
    for name, files in train.items():
        tables = {need.name: need.table for need in needed_columns(experiment, name) if need.table}
        for file in files.files:
            schema = open_parquet(file).schema_arrow
            found |= {table for column, table in tables.items() if is_unsigned(schema.field(column).type)}
    return sorted(found)
