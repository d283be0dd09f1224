"""Which versions of Delta tables a training reads: those that were current when it began."""

from pathlib import Path

from ...data.config.experiment import Experiment
from ...data.config.kinds import kinds_of
from ...data.config.load import load_experiment
from ...data.config.locations import locations
from ...data.config.sections.domains import SPLITS
from ...data.storage.delta_tables import DELTA, is_delta, table_of, with_version
from ..logs.records import info
from ..run.moved_runs import settled
from ..run.run_documents import RunInfo
from ..run.run_folder import EXPERIMENT, RUN_INFO, fetch_run, read_json


def without_version(experiment: Experiment) -> dict[str, str]:
    """Field -> the Delta table in it, of the fields of events that name one without its version."""
    found = {}
    for name, domain in experiment.domains.items():
        for split in SPLITS:
            location = getattr(domain.events, split)
            if location is not None and is_delta(location) and table_of(location)[1] is None:
                found[f"domains.{name}.events.{split}"] = location
    return found


def with_versions(experiment: Experiment, run: Path) -> Experiment:
    """The experiment with the versions of the Delta tables that its events name: of a run that is there, those that it reads; else
    the current ones.

    Args:
        experiment: the experiment.
        run: the run's folder.

    Raises:
        UserError: there is no such table, or it cannot be read.
    """
    if not (unversioned := without_version(experiment)):
        return experiment
    held, versions = _held(experiment, run, set(unversioned.values())), dict[str, str]()
    for location in unversioned.values():  # one table is read at one version
        versions[location] = held.get(location) or versions.get(location) or with_version(location)
    for field, location in unversioned.items():
        path, version = table_of(versions[location])
        info(f"{field}: version {version} of {path}")
    domains = {}
    for name, domain in experiment.domains.items():
        events = domain.events.model_dump()
        events = {split: versions[of] for split, of in events.items() if of in versions}
        domains[name] = domain.model_copy(update={"events": domain.events.model_copy(update=events)})
    return experiment.model_copy(update={"domains": domains})


def _held(experiment: Experiment, run: Path, tables: set[str]) -> dict[str, str]:
    """Table, as a location without a version -> the one with the version that a run reads."""
    fetch_run(run)
    if not (run / EXPERIMENT).is_file():
        return {}

    def bare(location: str) -> str:
        return f"{DELTA}{table_of(location)[0]}" if is_delta(location) else location

    made_in = read_json(run / RUN_INFO, RunInfo, {}).get("folder")
    before = load_experiment(run / EXPERIMENT, kinds=kinds_of(experiment))
    before = settled(before, made_in, run, lambda location: bare(location) in tables)
    return {bare(location): location for location in locations(before) if is_delta(location)}
