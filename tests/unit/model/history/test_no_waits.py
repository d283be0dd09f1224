"""Steps of models with histories and list losses, in the form for GPUs: nothing of them has to wait for the device."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from torchrec import KeyedTensor

from foundrank.data.batch.batch import Batch
from foundrank.data.batch.result_lists import result_lists
from foundrank.data.config.load import load_experiment
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.kinds import KINDS
from foundrank.model.layers import fast
from foundrank.model.losses import LIST_LOSSES
from foundrank.model.representation.embedding_tables import materialise
from tests.tiny_world import SCHEMAS, encoder_of, random_events, write_world

from ..foundation.test_forms import NoWaiting

MODEL = "embedding_dim: 8, width: 8, aspects: [id, text, sparse]"
HISTORIES = ["din", "sasrec", "bert4rec", "hstu"]
LOSSES = ["softmax", "sampled_softmax", "gbce"]


def step_without_waiting(model: Foundation, batch: Batch) -> None:
    pooled = model.embeddings(batch.sparse)
    given = KeyedTensor(pooled.keys(), pooled.length_per_key(), pooled.values().detach().requires_grad_())
    model.dense(given, batch)  # what it learns once, it may wait for
    with NoWaiting():
        loss, _ = model.dense(given, batch)
        loss.backward()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("waits")
    write_world(folder, random_events(1, {"find": 40, "home": 60, "new": 10}))
    return folder


@pytest.mark.parametrize(
    ("history", "loss"),
    [("din", None), *((each, "softmax") for each in HISTORIES[1:]), ("sasrec", LOSSES[1]), ("sasrec", LOSSES[2])],
)
def test_no_step_with_a_history_waits_for_a_gpu(history, loss, world, monkeypatch):
    more = "" if loss is None else f", next_item: {{loss: {loss}}}"
    settings = f"model={{{MODEL}, history: {{encoder: {history}, features: [brand, tags, price, image]}}{more}}}"
    encoder = encoder_of(load_experiment(world, [settings], kinds=KINDS))
    model = Foundation(encoder.layout, encoder.experiment.model, 8)
    materialise(model, 1)
    rows = [dict.fromkeys(SCHEMAS["home"].names) | {"history": [i, 3 - i], "item": i + 1, "like": 1} for i in range(4)]
    encoded = encoder.encode("home", pa.Table.from_pylist(rows, schema=SCHEMAS["home"]), "here")
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    step_without_waiting(
        model, encoder.assemble([encoded], 8, encoder.items(trained=True).take(np.arange(4 if loss else 0)))
    )


@pytest.mark.parametrize("name", LIST_LOSSES)
def test_no_step_with_a_list_loss_waits_for_a_gpu(name, layout, config, make_batch, monkeypatch):
    loss = LIST_LOSSES[name]()
    further = [(f"click/{output}", f"list/{output}") for output in loss.outputs]
    layout = replace(
        layout,
        list_losses=((loss, None), (None, None), (None, None)),
        outputs=(*layout.outputs, *(name for name, _ in further)),
        output_kinds=(*layout.output_kinds, *(kind for _, kind in further)),
        output_tasks=(*layout.output_tasks, *([0] * len(further))),
    )
    model = Foundation(layout, config(), batch_size=16)
    materialise(model, seed=1)
    batch = make_batch(layout, [5, 3, 2], padding=2)
    begins = np.isin(np.arange(10), [0, 2, 5, 8])
    batch.lists = result_lists([begins], [10])
    monkeypatch.setattr(fast, "kind_of", lambda x: "cuda")
    step_without_waiting(model, batch)
