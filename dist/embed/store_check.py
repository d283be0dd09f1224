"""Whether there can be a store of contents, or of their codes, where an experiment has it."""

from ...data.errors import UserError
from ...data.storage.file_systems import is_uri
from ...data.storage.mirror import mirrored
from ...data.storage.new_folder import check_can_be_made
from ...data.storage.storage import check_writable
from ..ranks.environment import of_machine
from ..ranks.runtime import Runtime


def check_store_place(location: str, work: str, runtime: Runtime) -> None:
    """Finds out before the work whether there can be a store.

    Args:
        location: ``text.store``.
        work: what is to be done, as a command says it: ``Embed``.
        runtime: the ranks that will write.

    Raises:
        UserError: it cannot be made or written, or is in an object store and the ranks are on several machines.
    """
    store = mirrored(location, "work")
    if is_uri(location) and of_machine()[1] != runtime.world_size:
        raise UserError(
            f"text.store: {location}",
            "is in an object store, where ranks of several machines cannot write one file",
            f"{work} on one machine, or on several into a folder that all of them see.",
        )
    check_can_be_made(store, f"text.store: {store}", "Choose a folder you can write to.")
    if is_uri(location):
        check_writable(location)
