"""Which partitions of events there are: folders that a pattern leaves open, such as days, each of which is learned by itself."""

import glob
from collections.abc import Mapping, Sequence

from ...data.config.experiment import Experiment
from ...data.errors import UserError, nearest
from ...data.storage import storage
from ...data.storage.delta_tables import is_delta
from ...data.storage.globs import expand_glob

_DOMAIN, _ANY_DEPTH = "{domain}", "**"


def partitions(patterns: Mapping[str, str]) -> list[dict[str, str]]:
    """For each partition, in the order of their names, domain -> the pattern of its files there, of those domains that have any.

    ``events/day=*/*.parquet`` has one for each day; what names a single folder, or folders at any depth, has one.

    Args:
        patterns: domain -> an absolute pattern of files.
    """
    found: dict[tuple[str, ...], dict[str, str]] = {}
    for domain, pattern in patterns.items():
        for file in expand_glob(pattern):
            key, own = _of_file(file, pattern)
            found.setdefault(key, {})[domain] = own
    return [found[key] for key in sorted(found)]


def _of_file(file: str, pattern: str) -> tuple[tuple[str, ...], str]:
    """The folders that stand for what a pattern leaves open, and the pattern with them in place of it."""
    asked, there = pattern.split("/"), file.split("/")
    if is_delta(pattern) or _ANY_DEPTH in asked or len(asked) != len(there):
        return (), pattern
    open_ones = [at for at, part in enumerate(asked[:-1]) if glob.has_magic(part) and part != there[at]]
    own = [there[at] if at in open_ones else part for at, part in enumerate(asked)]
    return tuple(there[at] for at in open_ones), "/".join(own)


def patterns_of(events: Sequence[str], experiment: Experiment, folder: str) -> dict[str, str]:
    """Domain -> the absolute pattern of its new events.

    Args:
        events: patterns as they were given: ``DOMAIN=PATTERN``, or one with ``{domain}`` in it, or of the only domain there is.
        experiment: whose domains these are.
        folder: that patterns are relative to.

    Raises:
        UserError: it is not said of which domain events are, or no file is named.
    """
    domains, found = list(experiment.domains), dict[str, str]()
    for given in events:
        name, equals, pattern = given.partition("=")
        if equals and name in domains:
            named = {name: pattern}
        elif _DOMAIN in given:
            named = {each: given.replace(_DOMAIN, each) for each in domains}
        elif len(domains) == 1:
            named = {domains[0]: given}
        else:
            what = f"does not say of which of the {len(domains)} domains the events are"
            remedy = f"Write {_DOMAIN} where its name is, or DOMAIN=PATTERN for each. {nearest(name, domains)}"
            raise UserError(f"--events {given}", what, remedy)
        for twice in sorted(named.keys() & found.keys()):
            remedy = "Write one pattern for both, e.g. events/day=*/*.parquet, or update twice."
            raise UserError(f"--events {given}", f"names events of '{twice}', as another one does", remedy)
        found |= named
    resolved = {name: storage.resolved(pattern, folder) for name, pattern in found.items()}
    if events and not any(expand_glob(pattern) for pattern in resolved.values()):
        remedy = "Give the pattern of new events, e.g. events/day=*/*.parquet."
        raise UserError(f"--events {' '.join(events)}", "names no file", remedy)
    return resolved
