"""What rows are joined with, catalogs and text vectors: what tells them from what they were."""

from collections.abc import Mapping, Sequence
from typing import Any

from ...data.catalogs.catalog_files import catalog_files
from ...data.config.experiment import Experiment
from ...data.contents.text_store import store_identity, text_store_folder
from ...data.storage.file_identity import identities


def joined(experiment: Experiment, before: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """`FileIdentity`s of all catalogs' files, and one for each store of text vectors that the model reads.

    Args:
        experiment: whose they are.
        before: what was noted of them, to spare reading those that cannot have changed since.

    Raises:
        UserError: a catalog names no file, or a store is missing or damaged.
    """
    entities = experiment.entities.present()
    files = [file for name, entity in entities.items() if entity.catalog for file in catalog_files(name, entity)]
    found = identities(files, before)
    if "text" in experiment.model.aspects:
        found += [store_identity(text_store_folder(experiment, name)) for name in experiment.entities.with_text()]
    return found
