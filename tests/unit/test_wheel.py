"""The package as others install it: a wheel, in a folder of its own."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("data", "model", "dist", "torchx_components", "pyproject.toml", "README.md", "LICENSE")
SAYS_WHERE_IT_IS = """
import foundrank, sys
print(foundrank.__version__, foundrank.__file__)
from foundrank.dist.cli.app import app
from foundrank.torchx_components import jobs
print(sys.modules["foundrank.data"].__file__)
"""


def run(*command: object, folder: Path, **environment: str) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the working tree, built from a copy: building leaves folders behind, which the next one would take up."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder / "source" / name)
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "wheel", *options, "-w", folder, folder / "source", folder=folder)
    (built,) = folder.glob("foundrank-*.whl")
    return built


def test_a_wheel_holds_the_package_and_nothing_else(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {"foundrank/__init__.py", "foundrank/py.typed", "foundrank/dist/sharding/cpu_tables.cpp"} <= held
    assert "foundrank/dist/report/templates/report.html" in held
    modules = {f"foundrank/{p.relative_to(ROOT)}" for name in SOURCES[:4] for p in (ROOT / name).rglob("*.py")}
    modules = {name.replace("foundrank/dist/api/", "foundrank/") for name in modules}
    assert {name for name in held if name.endswith(".py")} == modules
    assert {name.split("/")[0] for name in held} == {"foundrank", wheel.name.rsplit("-", 3)[0] + ".dist-info"}


def test_what_a_wheel_installs_works(wheel, tmp_path):
    options = ("--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check")
    run(sys.executable, "-m", "pip", "install", *options, "--target", tmp_path / "site", wheel, folder=tmp_path)
    installed = {"PYTHONPATH": str(tmp_path / "site")}
    version = wheel.name.split("-")[1]
    told = run(sys.executable, "-c", SAYS_WHERE_IT_IS, folder=tmp_path, **installed).split()
    assert told == [version, *(str(tmp_path / "site/foundrank" / name) for name in ("__init__.py", "data/__init__.py"))]
    told = run(sys.executable, tmp_path / "site/bin/foundrank", "--version", folder=tmp_path, **installed)
    assert told == f"foundrank {version}\n"
