"""What a run predicts depends neither on the ranks nor on the plan: every variant of the model under every kind of plan."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints
from torchrec.distributed.planner.storage_reservations import FixedPercentageStorageReservation

from foundrank.data.batch.row_encoder import RowEncoder
from foundrank.data.config.load import load_experiment
from foundrank.data.events.check_events import check_events
from foundrank.dist.evaluate.predict import predict
from foundrank.dist.fine_tuning.begin import begin_from
from foundrank.dist.fine_tuning.pretrained import pretrained
from foundrank.dist.ranks.runtime import Runtime
from foundrank.dist.retrieval.retrieval import item_vectors
from foundrank.dist.run.checkpoint_writer import load_newest
from foundrank.dist.run.run_folder import open_run
from foundrank.dist.score.score import model_of
from foundrank.dist.sharding import planner as planning
from foundrank.dist.sharding import shard as sharding
from foundrank.dist.train.optimizer import Optimizer
from foundrank.model.kinds import KINDS

from .harness import run_ranks
from .rank_work import train_run
from .small_events import write_events, write_experiment

HASHED = ("entities.user.encoding=hash", "entities.user.buckets=37", "entities.item.features.tags.encoding=hash")
VARIANTS: dict[str, tuple[str, ...]] = {
    "domain_gate, mmoe, mean, lists": (),
    "none, shared_bottom, mean, hashed lists, a bias and a weighted list": (
        "model.gate=none",
        "model.head=shared_bottom",
        "context.device.bias=true",
        "entities.item.features.labels={kind: weighted_list, column: tags, weights: tag_weights}",
        *HASHED,
    ),
    "none, mmoe, no domain layer, bf16, float16 tables": (
        "model.gate=none",
        "model.domain_width=0",
        "training.precision=bf16",
        "training.table_precision=fp16",
    ),
    "mean, star, din on features and a table for attention, bf16": (
        "model.gate=mean",
        "model.head=star",
        "model.history={encoder: din, decoupled: true, features: [category, tags, price, age]}",
        "training.precision=bf16",
    ),
    "mean_gate, ple, sasrec finds the next item, mmd": (
        "model.gate=mean_gate",
        "model.id_dropout=0.2",
        "model.unknown_id=learned",
        "model.head=ple",
        "model.history={encoder: sasrec, layers: 1, dropout: 0, features: [tags]}",
        "model.next_item={negatives: 16}",
        "model.alignment=mmd",
    ),
    "cls_gate, mmoe, bert4rec finds the next item among all, no alignment": (
        "model.gate=cls_gate",
        "model.history={encoder: bert4rec, layers: 1, dropout: 0}",
        "model.next_item={loss: softmax}",
        "model.alignment=none",
    ),
    "domain_count_gate, one head, hstu that reasons, gbce": (
        "model.gate=domain_count_gate",
        "model.hide_rare_items=3",
        "model.unknown_id=learned",
        "model.shared_head=true",
        "model.history={encoder: hstu, layers: 1, dropout: 0, reasoning: {steps: 2, block: 2}}",
        "model.next_item={negatives: 16, loss: gbce}",
        *HASHED,
    ),
}
TABLES = (
    *("id_user", "id_item", "attention_item", "feature_device", "feature_category", "feature_tags"),
    *("feature_age", "feature_labels"),
)
MIXED = dict(zip(TABLES, ("row_wise", "table_wise", "row_wise", "column_wise") * 2, strict=True))
MIXED |= {"feature_category": "row_wise", "feature_tags": "table_wise"}
OTHERS = {
    table: {"row_wise": "table_wise", "table_wise": "row_wise", "column_wise": "table_wise"}[kind]
    for table, kind in MIXED.items()
}
PLACES: dict[str, tuple[int, dict[str, str]]] = {
    "1": (1, {}),
    "2, whole": (2, dict.fromkeys(TABLES, "table_wise")),
    "2, columns": (2, dict.fromkeys(TABLES, "column_wise")),
    "2, rows": (2, dict.fromkeys(TABLES, "row_wise")),
    "2, mixed": (2, MIXED),
    "2, mixed the other way": (2, OTHERS),
    "3, auto": (3, {}),
    "4, auto": (4, {}),
    "4, rows of a host": (4, dict.fromkeys(TABLES, "table_row_wise")),
    "4, grid": (4, dict.fromkeys(TABLES, "grid_shard")),
    "4, grid beside rows and whole": (4, MIXED | {"id_item": "grid_shard", "feature_tags": "grid_shard"}),
}


def placed(runtime: Runtime, kinds: dict[str, str]) -> None:
    """Has this process's tables sharded by these kinds, in place of the planner's choice; four ranks are two hosts."""
    if runtime.world_size == 4:
        os.environ |= {"LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": str(runtime.rank % 2)}
    if not kinds:
        return

    def plan_tables(model, layout, experiment, ranks, sharder):
        constraints = {
            table: ParameterConstraints(
                sharding_types=[kinds[table]],
                compute_kernels=["fused"],
                min_partition=4 if kinds[table] == "column_wise" else None,
                pooling_factors=[1.0] * sum(of == table for of in layout.table_of.values()),
            )
            for table in layout.tables
        }
        planner = EmbeddingShardingPlanner(
            topology=planning._topology(ranks),
            batch_size=experiment.training.batch_size,
            constraints=constraints,
            storage_reservation=FixedPercentageStorageReservation(planning.RESERVED_SHARE),
        )
        return planning.TablePlan(planner.plan(model, [sharder]), [])

    sharding.plan_tables = plan_tables  # type: ignore[assignment]


def trained(runtime: Runtime, experiment: Any, run: Path, kinds: dict[str, str]) -> None:
    placed(runtime, kinds)
    train_run(runtime, experiment, run)


def predictions(runtime: Runtime, run: Path, kinds: dict[str, str], ways: Sequence[str]) -> dict[str, np.ndarray]:
    """What a run predicts, opened in each of some ways: on rank 0, rows in an order of their own."""
    placed(runtime, kinds)
    experiment, statistics = open_run(run)
    files = {name: of["test"] for name, of in check_events(experiment, ("train", "test")).items()}
    out = {}
    for way in ways:
        encoder = RowEncoder(experiment, statistics)
        if way == "score":
            _, model, _ = model_of(run, runtime)
        else:
            model = sharding.shard(encoder.layout, experiment, runtime)
            if way == "resume":
                assert load_newest(run, model, Optimizer(model, experiment.training), runtime) is not None
            else:
                begin_from(pretrained(experiment.model_copy(update={"init_from": str(run)})), model, encoder, runtime)
        columns, _, _ = predict(model, encoder, files, runtime)
        parts = runtime.gather({name: columns[name] for name in ("scores", "item", "user", "domain")})
        if parts:
            every = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            rows = np.lexsort((every["scores"][:, 0], every["item"], every["user"], every["domain"]))
            out[way] = every["scores"][rows]
        if encoder.layout.candidates:
            model.eval()
            out[f"{way}: items"] = item_vectors(model, encoder, encoder.items(trained=False), runtime).numpy()
    return out


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory):
    """The run of a variant, trained on two ranks with tables whole, by rows and by columns."""
    folder, found = tmp_path_factory.mktemp("plans"), {}
    write_events(folder)
    path = write_experiment(folder)

    def run_of(variant: str) -> tuple[Path, dict[str, np.ndarray]]:
        if variant not in found:
            run = folder / f"run{len(found)}"
            run_ranks(trained, 2, load_experiment(path, list(VARIANTS[variant]), kinds=KINDS), run, MIXED)
            found[variant] = run, run_ranks(predictions, 2, run, MIXED, ("resume",))[0]
        return found[variant]

    return run_of


def agrees(runs, variant: str, place: str, ways: Sequence[str]) -> None:
    run, wanted = runs(variant)
    ranks, kinds = PLACES[place]
    found = run_ranks(predictions, ranks, run, kinds, ways)[0]
    close = 1e-3 if "bf16" in variant else 2e-5
    assert np.ptp(wanted["resume"]) > 20 * max(close, 1e-3)  # what differs would be seen
    for way, values in found.items():
        np.testing.assert_allclose(
            values, wanted[way.replace(way.split(":")[0], "resume")], rtol=0, atol=close, err_msg=way
        )


FEW = [(variant, place) for v, variant in enumerate(VARIANTS) for p, place in enumerate(PLACES) if (v + 2 * p) % 7 < 2]


@pytest.mark.parametrize(("variant", "place"), FEW)
def test_predictions_do_not_depend_on_ranks_or_plan(runs, variant: str, place: str):
    agrees(runs, variant, place, ("resume", "begin", "score"))


@pytest.mark.grid
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_no_variant_depends_on_ranks_or_plan(runs, variant: str, place: str):
    agrees(runs, variant, place, ("resume", "begin", "score"))
