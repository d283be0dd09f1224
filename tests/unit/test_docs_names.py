"""Whatever a document names exists: fields, files, make targets, commands, options, variables; and what exists is named."""

import re
import shlex
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from foundrank.data.config.kinds import experiment_type
from foundrank.dist.cli.app import app
from foundrank.model.kinds import KINDS
from foundrank.torchx_components import jobs

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / ".github").rglob("*.*")),
    ROOT / ".pre-commit-config.yaml",
]
FENCE = re.compile(r"^\s*```(\w*)\n(.*?)^\s*```", re.MULTILINE | re.DOTALL)
# Options of other programs, which documents name beside our own.
FOREIGN_OPTIONS = {
    *("--help", "--version", "--dryrun", "--workspace", "--no-deps", "--draws", "--nproc-per-node", "--max-restarts", "--run-path"),
    *("--build-arg", "--target", "--rdzv-endpoint", "--signals-to-handle"),
}  # fmt: skip
SCHEMA = experiment_type(KINDS).model_json_schema()


def document_id(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=document_id)


@cache
def tracked() -> list[str]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listing.returncode:
        pytest.skip("not a git working tree")
    return [name for name in listing.stdout.splitlines() if (ROOT / name).exists()]


def inline(document: Path) -> list[str]:
    """What stands between backticks in running text."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", document.read_text())) if document.suffix == ".md" else []


def shell_lines(document: Path) -> list[str]:
    text = "\n".join(body for kind, body in FENCE.findall(document.read_text()) if kind == "bash")
    return text.replace("\\\n", " ").splitlines()


def below(part: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The parts of a JSON Schema that ``key`` of ``part`` may be; a name of the user's choice may be any."""
    if "$ref" in part:
        return below(SCHEMA["$defs"][part["$ref"].rsplit("/", 1)[1]], key)
    found = [child for kind in ("anyOf", "oneOf", "allOf") for each in part.get(kind, []) for child in below(each, key)]
    if key in part.get("properties", {}):
        found.append(part["properties"][key])
    elif key == "*":
        found += part.get("properties", {}).values()
    found += part.get("patternProperties", {}).values()
    if isinstance(part.get("additionalProperties"), dict):
        found.append(part["additionalProperties"])
    return found


def is_a_field(path: str) -> bool:
    """Whether a dotted path leads to a field of the experiment; ``*`` and names of the user's choice lead anywhere."""
    parts = [SCHEMA]
    for key in path.split("."):
        parts = [child for part in parts for child in below(part, key)]
    return bool(parts)


def fields_named(document: Path) -> set[str]:
    """Dotted paths in backticks that begin like an experiment's, and those that commands set."""
    text = FENCE.sub("", document.read_text())
    named = {code for code in inline(document) if re.fullmatch(r"[a-z_]+(\.[a-z0-9_*]+)+", code)}
    named |= set(re.findall(r"`([a-z_]+(?:\.[a-z0-9_*]+)+): [^`]+`", text))
    for line in shell_lines(document):
        words = shlex.split(line, comments=True)
        for option, value in pairwise(words):
            if option == "--set":
                named |= {part.partition("=")[0].strip() for part in value.split(";")}
    files = {"events.json", "run.json"}  # of a run folder
    return {path for path in named - files if path.split(".")[0] in SCHEMA["properties"]}


def parameters(command: str) -> set[str]:
    """The options of a command, and of those below it."""
    found = get_command(app).commands[command]  # type: ignore[attr-defined]
    every = [found, *getattr(found, "commands", {}).values()]
    return {name for one in every for each in one.params for name in [*each.opts, *each.secondary_opts]}


@cache
def options() -> set[str]:
    ours = {name for command in get_command(app).commands for name in parameters(command)}  # type: ignore[attr-defined]
    components = [
        getattr(jobs, name)
        for name in ("embed", "tokenize", "train", "evaluate", "score", "recommend", "study")
        if hasattr(jobs, name)
    ]
    ours |= {f"--{name}" for each in components for name in each.__annotations__}
    for path in [*(ROOT / "benchmarks").glob("*.py"), *(ROOT / "tests").rglob("*.py"), *ROOT.glob("requirements*.txt")]:
        ours |= set(re.findall(r"--[a-z][\w-]+", path.read_text()))
    return ours


def test_fields_are_told_from_what_is_none():
    assert is_a_field("domains.home.tasks.*.label")
    assert is_a_field("entities.*.history.column")
    assert not is_a_field("training.batch_sizes")
    assert not is_a_field("domains.home.batch_size")


@every_document
def test_fields_exist(document):
    assert [path for path in sorted(fields_named(document)) if not is_a_field(path)] == []


@every_document
def test_files_exist(document):
    text = document.read_text()
    paths = re.findall(
        r"(?<![\w/.*-])(?:(?:data|model|dist|tests|benchmarks|docs|examples|torchx_components)/|\.ci/|\.github/)[\w./-]*\w/?",
        text,
    )
    # What a user has is not ours: folders of data in the commands, files that a run or a data set holds.
    paths = [path for path in paths if path.endswith((".py", ".cpp", ".md", ".yml", "/")) or path.startswith(".")]
    modules = re.findall(r"(?<![\w/.-])[\w/]+\.(?:py|cpp)\b", text)
    placeholders = re.compile(r"(^|/)[A-Z]+(\.|/|$)|(^|/)mine\.py$")
    known = tracked()
    missing = [path for path in paths if not placeholders.search(path) and not (ROOT / path).exists()]
    missing += [
        path
        for path in modules
        if not placeholders.search(path) and not any(f"/{name}".endswith(f"/{path}") for name in known)
    ]
    # SECURITY.md names files that a stranger may have put into the working folder, another page a user's script.
    assert [path for path in missing if path not in ("typer.py", "statistics.py", "my_training.py")] == []


@every_document
def test_make_targets_exist(document):
    text = document.read_text()
    named = {name for code in inline(document) for name in re.findall(r"^make ([a-z]+)$", code)}
    named |= (
        set(re.findall(r"^(?:- run: |\s*- run: |)make ([a-z]+)", text, re.MULTILINE))
        if document.suffix != ".md"
        else set()
    )
    named |= {words[1] for line in shell_lines(document) if (words := line.split())[:1] == ["make"]}
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert named - targets == set()


@every_document
def test_commands_and_options_exist(document):
    known = get_command(app).commands  # type: ignore[attr-defined]
    unknown = []
    for code in inline(document):
        words = code.split()
        if words[0] == "foundrank" and len(words) > 1 and re.fullmatch("[a-z]+", words[1]):
            if words[1] not in known:
                unknown.append(code)
            else:
                given = {re.split("[= ]", word)[0] for word in words[2:] if word.startswith("-")}
                unknown += [code] if given - parameters(words[1]) - {"--help"} else []
        elif re.match(r"--[a-z]", code):
            unknown += [code] if re.split("[= ]", code)[0] not in options() | FOREIGN_OPTIONS else []
    assert unknown == []


@every_document
def test_modules_that_are_run_exist(document):
    modules = re.findall(r"-m ((?:benchmarks|tests|foundrank)\.\w[\w.]*)", document.read_text())
    files = [ROOT / module.removeprefix("foundrank.").rstrip(".").replace(".", "/") for module in modules]
    assert [
        file for file in files if not file.with_suffix(".py").exists() and not (file / "__main__.py").exists()
    ] == []


@every_document
def test_variables_are_read_somewhere(document):
    sources = [path for path in tracked() if path.endswith((".py", "Makefile"))]
    for name in set(re.findall(r"\bFOUNDRANK_[A-Z]+\b", document.read_text())):
        assert any(name in (ROOT / path).read_text() for path in sources), name


def test_every_command_and_component_is_in_the_reference():
    reference = (ROOT / "docs/reference/commands.md").read_text()
    named = set(re.findall(r"^\| `foundrank ([a-z]+)` \|", reference, re.MULTILINE))
    assert named == set(get_command(app).commands)  # type: ignore[attr-defined]


def test_every_page_is_in_the_contents():
    linked = set(re.findall(r"\]\(([\w/-]+\.md)\)", (ROOT / "docs/README.md").read_text()))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {"README.md"} == linked
    assert pages == set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("nav:")[2]))


def test_every_folder_is_in_the_tree_of_contributing():
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    (tree,) = [body for _, body in FENCE.findall(contributing) if "torchx_components/" in body]
    named: set[str] = set()
    parent = ""
    for line in tree.splitlines():
        indent, name = re.match(r"( *)([\w.]+)/", line).groups()  # type: ignore[union-attr]
        parent = parent if indent else name
        named.add(f"{parent}/{name}" if indent else name)
    files = [name for name in tracked() if "/" in name]
    top = {name.split("/")[0] for name in files}
    inner = {"/".join(name.split("/")[:2]) for name in files if name.count("/") > 1}
    inner = {name for name in inner if name.split("/")[0] in ("data", "model", "dist", "tests")}
    assert named == top | inner
