"""What a tokenize job would find wrong, before it begins."""

from ...data.codes.code_store import codes_folder, expected_codes
from ...data.codes.code_table import read_code_table
from ...data.config.experiment import Experiment
from ...data.config.sections.entities import Stored
from ...data.contents.content_store import check_store, open_store, store_folder
from ...data.storage.new_folder import check_can_be_made
from ...model.tokenizers.given import Given
from ..ranks.runtime import ALONE
from .code_files import check_can_go_on
from .inputs import sources
from .tokenize import check_tokenizing


def checked_tokenizing(experiment: Experiment, export: str | None, rebuild: bool = False) -> list[str]:
    """Everything it would find wrong with what codes are made of, but for a run and events, which take their time; what it will do.

    Raises:
        UserError: the first thing wrong.
    """
    check_tokenizing(experiment, export)
    told = []
    for name, content in experiment.entities.item.codes().items():
        of = Stored("item", name)
        folder = codes_folder(experiment, of)
        check_can_be_made(folder, f"text.store: {experiment.text.store}", "Choose a folder you can write to.")
        check_can_go_on(folder, expected_codes(experiment, of), rebuild)
        for other in experiment.inputs_of(content):
            if Stored("item", other) in experiment.stored():
                check_store(
                    open_store(store_folder(experiment, Stored("item", other))), experiment, Stored("item", other)
                )
        if isinstance(content.codes, Given):
            read_code_table(content.codes.path, content.codes.values)
        if not content.codes.graph and getattr(content.codes, "run", None) is None:
            sources(experiment, of, content, ALONE)
        told.append(
            f"{of}: {content.codes.method}, levels of {', '.join(map(str, content.codes.sizes))} values; store: {folder}"
        )
    return told
