"""What rows are joined with, catalogs and content stores: what tells them from what they were."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...data.catalogs.catalog_files import catalog_files
from ...data.codes.code_store import codes_folder, codes_identity
from ...data.config.experiment import Experiment
from ...data.contents.content_store import store_folder, store_identity
from ...data.storage.file_identity import identities


def joined(experiment: Experiment, before: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """`FileIdentity`s of all catalogs' files, and one for each content store and code store that the model reads.

    Args:
        experiment: whose they are.
        before: what was noted of them, to spare reading those that cannot have changed since.

    Raises:
        UserError: a catalog names no file, or a store is missing or damaged.
    """
    entities = experiment.entities.present()
    files = [file for name, entity in entities.items() if entity.catalog for file in catalog_files(name, entity)]
    found = identities(files, before)
    found += [store_identity(store_folder(experiment, of)) for of in experiment.stores_read()]
    return found + [codes_identity(codes_folder(experiment, of)) for of in experiment.coded()]
