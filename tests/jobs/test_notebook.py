"""The notebooks of examples/ run from top to bottom, and what they show is there to be read."""

from pathlib import Path

import nbclient
import nbformat
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stored, again = nbformat.read(path, as_version=4), nbformat.read(path, as_version=4)
    nbclient.NotebookClient(again, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for before, cell in zip(stored.cells, again.cells, strict=True):
        if cell.cell_type == "code":
            kinds = [[output.output_type for output in of.outputs] for of in (before, cell)]
            assert kinds[0] == kinds[1], f"run it again: {cell.source}"
            assert not [output for output in cell.outputs if output.get("name") == "stderr"], cell.outputs
    bars = [output.data for cell in again.cells for output in cell.get("outputs", ()) if "100%" in str(output)]
    assert [bar["text/plain"].split()[0] for bar in bars] == [
        "training",
        "predicting",
    ]  # each in the cell that waits for it
    assert all("text/html" in bar for bar in bars)
