"""An embed job on a small catalog, with an encoder whose vectors are known."""

import io
import threading
from contextlib import redirect_stderr
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from foundrank.data.config.kinds import experiment_type
from foundrank.dist.embed.embed import embed
from foundrank.dist.ranks.runtime import Runtime
from foundrank.model.contents.content_encoder import Encoded
from foundrank.model.contents.text_encoder_files import StatedSettings
from foundrank.model.kinds import KINDS

ALONE = Runtime(0, 1, torch.device("cpu"))


@dataclass
class LengthEncoder:
    """Stands in for the language model: a text's vector is (its length, 1, 0, 0); longer than 50 is cut."""

    weights_checksum: str = "w"
    size: int = 4
    precision: str = "fp32"
    pooling: str = "mean"
    normalize: bool = False
    max_length: int = 50
    revision: str | None = None
    stated: StatedSettings = field(default_factory=StatedSettings)
    calls: list = field(default_factory=list)
    fails_at: int | None = None
    turn: threading.Lock = field(default_factory=threading.Lock)

    def encode(self, texts, prompt=""):
        with self.turn:
            if self.fails_at is not None and len(self.calls) >= self.fails_at:
                raise KeyboardInterrupt
            self.calls.append([prompt + text for text in texts])
        vectors = [[min(len(prompt + text), 50), 1.0, 0.0, 0.0] for text in texts]
        return Encoded(np.array(vectors, np.float32).reshape(-1, 4), sum(len(text) > 50 for text in texts))

    def prompt(self, entity):
        return self.stated.prompt(entity)

    def made_with(self, prompt):
        names = ("precision", "pooling", "normalize", "max_length")
        return {"weights_sha256": self.weights_checksum, "prompt": prompt} | {
            name: getattr(self, name) for name in names
        }

    @property
    def texts(self):
        return sorted(text for call in self.calls for text in call)


def make_experiment(tmp_path, template="{title}", prompt=None, **text):
    catalog = {"path": str(tmp_path / "items*.parquet"), "key": "asin"}
    item = {"id": "item", "catalog": catalog, "text": template, "prompt": prompt}
    return experiment_of(item, tmp_path, **text)


def experiment_of(item, tmp_path, **text):
    """The smallest experiment with such an item, its stores in the folder."""
    return experiment_type(KINDS).model_validate(
        {
            "name": "t",
            "entities": {"user": {"id": "user"}, "item": item},
            "domains": {
                "shop": {
                    "kind": "recommendation",
                    "events": {"train": "x.parquet"},
                    "tasks": {"click": {"label": "click"}},
                }
            },
            "text": {"store": str(tmp_path / "store"), **text},
        }
    )


def write_items(tmp_path, keys=("a", "b", "c", "d"), titles=("xx", None, "yyy", "xx"), name="items.parquet"):
    pq.write_table(pa.table({"asin": keys, "title": pa.array(titles, pa.string())}), tmp_path / name, row_group_size=7)


def many(count, start=0):
    """Keys, and as many distinct texts of 1 to 40 letters."""
    numbers = range(start, start + count)
    return [f"k{n}" for n in numbers], [f"{n:03d}" + "x" * (n * 7 % 37) for n in numbers]


def run(experiment, **options):
    with redirect_stderr(io.StringIO()) as said:
        folder = embed(experiment, ALONE, **options)["item"]
    return folder, said.getvalue()


def vectors_of(store):
    return {key.as_py(): store.vectors[row].tolist() for key, row in zip(store.keys, store.row_of_key, strict=True)}


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
