"""The shape of the source: who imports whom, how long a file is, and what is never called or committed."""

import ast
import importlib
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "data": {"data"},
    "model": {"data", "model"},
    "dist": {"data", "model", "dist"},
    "torchx_components": {"torchx_components"},
}
API = ROOT / "dist/api"  # the package's root: `import foundrank`
ROOT_MODULES = {path.stem for path in API.glob("*.py")}
SOURCES = sorted(path for folder in MAY_IMPORT for path in (ROOT / folder).rglob("*.py"))
FOLDERS = sorted({path.parent for path in SOURCES})
MAX_LINES = 320


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Absolute dotted names a file imports, relative ones resolved to ``foundrank.<folder>...``."""
    package = ["foundrank", *path.relative_to(ROOT).parts[:-1]]
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            names |= {".".join([*base, alias.name]) for alias in node.names}
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def folder_of(name: str) -> str | None:
    """The folder of a module of ours, by its dotted name; None for modules of others and for the root itself."""
    if not within(name, "foundrank"):
        return None
    parts = name.split(".")[1:]
    while parts and not (ROOT.joinpath(*parts)).is_dir():
        parts = parts[:-1]
    return "/".join(parts) or None


def folder_graph() -> dict[str, set[str]]:
    """Folder -> the folders whose modules its own import."""
    graph: dict[str, set[str]] = {}
    for path in SOURCES:
        here = path.parent.relative_to(ROOT).as_posix()
        folders = {folder_of(name) for name in imported(path)}
        graph.setdefault(here, set()).update(folder for folder in folders if folder not in (None, here))
    return graph


def test_the_graph_of_folders_has_no_ring():
    TopologicalSorter(folder_graph()).prepare()  # raises a CycleError that names the ring


@pytest.mark.parametrize("folder", FOLDERS, ids=ids)
def test_a_folder_can_be_taken_in_at_a_glance(folder):
    modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(modules) <= 12
    assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))


def test_unit_tests_mirror_the_folders():
    tested = {path.parent.relative_to(ROOT / "tests/unit") for path in (ROOT / "tests/unit").rglob("test_*.py")}
    assert {str(folder) for folder in tested} - {"."} <= {folder.relative_to(ROOT).as_posix() for folder in FOLDERS}


def test_every_folder_is_installed():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {"foundrank." + ".".join(folder.relative_to(ROOT).parts) for folder in FOLDERS if folder != API}
    assert set(packages) == {"foundrank", *folders}
    assert len(packages) == len(set(packages))


def test_every_folder_has_sources():
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_imports_go_one_way(path):
    folder = path.relative_to(ROOT).parts[0]
    ours = {name.split(".")[1] for name in imported(path) if within(name, "foundrank") and "." in name}
    assert ours - (ROOT_MODULES if path.parent == API else set()) <= MAY_IMPORT[folder]


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_the_real_folders_are_not_imported_by_their_own_names(path):
    # `import data` works from the repository root only, and would load a second copy of the module.
    assert not {name for name in imported(path) if name.split(".")[0] in MAY_IMPORT}


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent == API], ids=ids)
def test_the_root_imports_absolutely(path):
    # A relative import would name a module by where its file lies, and load it a second time.
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    assert not [node for node in imports if node.level]


def test_nothing_imports_the_root():
    assert not [path for path in SOURCES if path.parent != API and imported(path) & {"foundrank", "foundrank.dist.api"}]


def test_the_root_is_loaded_under_one_name():
    with pytest.raises(ImportError, match="import foundrank"):
        importlib.import_module("foundrank.dist.api")


@pytest.mark.parametrize("path", [p for p in SOURCES if p.is_relative_to(ROOT / "model")], ids=ids)
def test_the_model_knows_nothing_of_ranks(path):
    assert not {name for name in imported(path) if within(name, "torch.distributed")}
    assert not {name for name in imported(path) if within(name, "torchrec.distributed")}


@pytest.mark.parametrize("path", [p for p in SOURCES if p.parent == ROOT / "torchx_components"], ids=ids)
def test_components_import_torchx_alone(path):
    roots = {name.split(".")[0] for name in imported(path) if not within(name, "foundrank.torchx_components")}
    assert {root for root in roots if root not in sys.stdlib_module_names} <= {"torchx"}


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_files_stay_readable_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_nothing_runs_text_or_unpickles(path):
    forbidden = {"eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "yaml.unsafe_load"}
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    assert not {ast.unparse(call.func) for call in calls} & forbidden
    for call in calls:
        if ast.unparse(call.func) == "torch.load":
            assert any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in call.keywords)


def late_imports(path: Path) -> list[int]:
    """Lines of imports within functions that nothing beside them, and no comment of the whole file, gives a reason for."""
    text = path.read_text()
    lines = ["", *text.splitlines()]
    if "# Imported where it is used" in text:
        return []
    functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = {n.lineno for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)}

    def explained(line: int) -> bool:
        above = lines[line - 1].strip()
        return "#" in lines[line] or above.startswith("#") or (line - 1 in found and explained(line - 1))

    return sorted(line for line in found if not explained(line))


@pytest.mark.parametrize("path", SOURCES, ids=ids)
def test_what_is_imported_late_says_why(path):
    assert not late_imports(path)


def test_no_data_is_committed():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git working tree")
    files = [name for name in listing.stdout.split("\0") if name]
    assert files
    assert not [name for name in files if name.endswith((".parquet", ".npy", ".safetensors", ".pt", ".bin"))]
