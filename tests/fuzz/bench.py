"""A small world with two runs of it, and the real commands on a copy of it, each in a process of its own."""

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import yaml

from tests.importer_sources import SOURCES
from tests.tiny_encoder import write_bert
from tests.tiny_world import experiment_dict, random_events, write_world
from tests.warm_commands import run_warm

_DEADLINE = 60.0  # seconds, of a command that takes one
ROWS = {"find": 60, "home": 40, "new": 20}
TINY = {
    "width": 8, "embedding_dim": 4, "expert_widths": [8], "tower_widths": [4], "domain_width": 8, "experts": 2,
}  # fmt: skip
SEQUENCES = {"history": {"encoder": "sasrec", "layers": 1, "features": ["tags"]}, "next_item": {"negatives": 8}}


@dataclass(frozen=True)
class Outcome:
    """How a command ended, and all it said."""

    command: tuple[str, ...]
    status: int
    said: str


class Bench:
    """Where commands are tried: ``here`` is made anew for each of them, as ``pristine`` holds it.

    ``here`` has a world (experiment.yaml, events, catalogs, a text store), ``days`` of further events, ``input`` and ``users`` to score and to recommend to,
    the runs ``run`` and ``sequences``, ``tables`` of counts, and what can be imported below ``sources``.
    """

    def __init__(self, folder: Path):
        """Makes the world and trains the runs."""
        self.here, self.pristine = folder / "here", folder / "pristine"
        self._said = folder / "said"
        encoder = write_bert(folder / "encoder", ["title", *map(str, range(9))], hidden=4)
        write_world(self.here, random_events(0, ROWS), files=2, group=16)
        shutil.rmtree(self.here / "store")
        write_world(folder / "later", random_events(1, ROWS), files=1, group=16)
        for name in ("find", "home"):
            shutil.move(folder / "later" / name, self.here / "days" / name)
        for name, source in SOURCES.items():
            source(self.here / "sources" / name)
        for name, model in (("experiment", {}), ("sequences", SEQUENCES)):
            experiment = experiment_dict()
            experiment["model"] = TINY | model
            experiment["text"] = {"store": "store", "encoder": str(encoder)}
            experiment["training"] |= {"epochs": 1, "log_every": 1, "shuffle_rows": 16}
            (self.here / f"{name}.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
        events = pq.read_table(self.here / "find")
        for name, columns in (
            ("input", [name for name in events.column_names if name not in ("click", "buy", "truth")]),
            ("users", ["user", "history"]),
        ):
            (self.here / name).mkdir()
            pq.write_table(events.select(columns), self.here / name / "one.parquet", row_group_size=25)
        for name in ("experiment", "sequences"):
            run = "run" if name == "experiment" else name
            if name == "experiment":
                assert self.run("embed", self.here / "experiment.yaml").status == 0
            done = self.run("train", self.here / f"{name}.yaml", "--run-dir", self.here / run)
            assert done.status == 0, done.said
        assert self.run("count", self.here / "experiment.yaml", self.here / "counts").status == 0
        (tables,) = (self.here / "counts").glob("*/tables")
        tables.rename(self.here / "tables")
        shutil.rmtree(self.here / "counts")
        shutil.copytree(self.here, self.pristine)

    def fresh(self) -> Path:
        """``here``, as it was."""
        shutil.rmtree(self.here, ignore_errors=True)
        shutil.copytree(self.pristine, self.here)
        return self.here

    def run(self, *arguments: object) -> Outcome:
        """``foundrank ARGUMENTS``, in the folder that ``here`` is in."""
        command = tuple(map(str, arguments))
        self._said.unlink(missing_ok=True)
        status = run_warm(command, self._said, self._said, self.here.parent, _DEADLINE)
        said = self._said.read_text(encoding="utf-8", errors="replace") if self._said.exists() else ""
        return Outcome(command, -9 if status is None else status, said)


def checksums(folder: Path) -> dict[str, str]:
    """Each file below a folder, by what it holds."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
