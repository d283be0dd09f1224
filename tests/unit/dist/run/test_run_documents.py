"""What a run's documents must hold is what is written into them."""

import pytest

from foundrank.dist.run.run_documents import Evaluation, Validation
from foundrank.dist.run.run_folder import read_json, write_json
from foundrank.model.tasks import TASKS


@pytest.mark.parametrize("shape", [Evaluation, Validation])
def test_what_tasks_are_measured_by_is_read_back(tmp_path, shape):
    written = {"tasks": {name: kind(label="y").measures.model_dump() for name, kind in TASKS.items()}}
    written |= {"split": "test", "step": 1, "rows": []}
    write_json(tmp_path / "document.json", written)
    assert read_json(tmp_path / "document.json", shape) == written
