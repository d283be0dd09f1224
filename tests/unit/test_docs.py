"""The documents say what is: fields, files, headings and commands they name exist."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from torchx.specs.builders import materialize_appdef
from typer.main import get_command

import foundrank
from foundrank.dist.cli.app import app
from foundrank.dist.cli.schema_docs import experiment_reference
from foundrank.model.kinds import KINDS
from foundrank.torchx_components import jobs

ROOT = Path(__file__).parents[2]
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
GUIDE = ROOT / "docs/tutorials/your-data.md"
CALLED = re.compile(r"\bfoundrank\.([A-Za-z_]+)\b(?!\.)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    return [text for kind, text in FENCE.findall(path.read_text()) if kind == language]


def commands(program: str) -> list[list[str]]:
    """Arguments of every call of ``program`` in the shell blocks of all documents."""
    script = "\n".join(text for path in DOCUMENTS for text in blocks(path, "bash")).replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in script.splitlines()]
    return [line[1:] for line in lines if line and line[0] == program]


def anchors(path: Path) -> set[str]:
    """The anchors of a document's headings, by the rule of its hosts: lower case, no punctuation, dashes for blanks."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_experiment_reference_is_what_the_schema_says():
    written = (ROOT / "docs/reference/experiment.md").read_text()
    assert written == experiment_reference(KINDS) + "\n", (
        "run: foundrank schema --markdown > docs/reference/experiment.md"
    )


def test_the_reference_has_every_field_and_its_description():
    reference = experiment_reference(KINDS)
    for row in (
        "| `gate` | [gate: mean](#gate-mean) or [gate: mean_gate](#gate-mean_gate) or [gate: cls_gate](#gate-cls_gate) or [gate: domain_gate](#gate-domain_gate) or [gate: domain_count_gate](#gate-domain_count_gate) or [gate: none](#gate-none) | `domain_gate` | how aspects are fused",
        "| `id_dropout` | number ≥ 0, &lt; 1 | ",
        "| `tasks` | mapping, `NAME` to [task: binary](#task-binary) or [task: regression](#task-regression) or ",
        "| `aspects` | list of name | `[]` | views of each entity in use: id, sparse, and contents by name; all when empty |",
    ):
        assert row in reference
    assert "`entities.query.features.NAME`" in reference


def test_the_tutorial_shows_the_minimal_example():
    assert blocks(GUIDE, "yaml") == [(ROOT / "examples/minimal.yaml").read_text()]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)\s]+)\)", document.read_text()):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.is_relative_to(ROOT), f"{target} leaves the repository"
        assert file.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


@pytest.mark.parametrize("arguments", commands("foundrank"), ids=shlex.join)
def test_the_commands_shown_are_accepted(arguments):
    if ">" in arguments:
        arguments = arguments[: arguments.index(">")]
    command = get_command(app).commands[arguments[0]]  # type: ignore[attr-defined]
    command.make_context(arguments[0], list(arguments[1:]))


def test_what_documents_call_from_python_is_there():
    used = {name for path in DOCUMENTS for text in blocks(path, "python") for name in CALLED.findall(text)}
    assert {"train", "load", "load_experiment"} <= used <= set(foundrank.__all__)


@pytest.mark.parametrize("arguments", commands("torchx"), ids=shlex.join)
def test_the_jobs_shown_are_accepted(arguments):
    at = next(i for i, argument in enumerate(arguments) if argument.startswith("foundrank."))
    component = getattr(jobs, arguments[at].removeprefix("foundrank."))
    given = [argument for argument in arguments[at + 1 :] if argument not in ("--check", "False")]
    assert materialize_appdef(component, [*given, "--check", "False"]).roles  # its files are not here


def test_raw_ratings_become_events_as_the_tutorial_says(tmp_path):
    (script,) = blocks(GUIDE, "python")
    ratings = pa.table({"rating": [9, 3, 8, 7, 10] * 4, "timestamp": np.arange(20)[::-1]})
    pq.write_table(ratings, tmp_path / "ratings.parquet")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    parts = [pq.read_table(tmp_path / f"events/{split}.parquet") for split in ("train", "validation", "test")]
    assert [part.num_rows for part in parts] == [16, 2, 2]
    together = pa.concat_tables(parts)
    assert together["timestamp"].to_pylist() == list(range(20))
    assert together["liked"].to_pylist() == [int(rating >= 8) for rating in together["rating"].to_pylist()]
