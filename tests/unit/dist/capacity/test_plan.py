"""Plans of trainings on clusters that are not here."""

import pytest
from torchrec.distributed.planner import ParameterConstraints
from typer.testing import CliRunner

from foundrank.data.config.load import load_experiment
from foundrank.data.errors import UserError
from foundrank.dist.capacity.cluster import read_cluster
from foundrank.dist.capacity.footprint import footprint
from foundrank.dist.capacity.plan import fit, planned_layout, smallest, step_ms
from foundrank.dist.cli.app import app
from foundrank.dist.sharding import planner as planning
from foundrank.dist.sharding.planner import Ranks
from foundrank.model.kinds import KINDS

YAML = """
name: big
entities:
  user: {id: u, encoding: hash, buckets: 3_000_000_000, history: {}}
  item: {id: i, encoding: hash, buckets: 7_000_000_000}
context: {hour: {kind: categorical}}
domains:
  a: {kind: recommendation, events: {train: none/*.parquet}, tasks: {click: {label: c}}}
  b: {kind: recommendation, events: {train: none/*.parquet}, tasks: {click: {label: c}, buy: {label: d}}}
model: {embedding_dim: 128}
"""
ROWS = {"feature_hour": 24}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_text(YAML)
    return path


def test_ten_billion_rows_are_planned_without_a_table(path):
    experiment = load_experiment(path, kinds=KINDS)
    layout = planned_layout(experiment, ROWS, None)
    cluster = read_cluster("device=h100,world_size=96")
    planned = fit(layout, experiment, cluster)
    assert planned.why_not is None
    assert planned.footprint is not None
    assert planned.footprint.bytes["tables"].sum() == (10_000_000_002 + 24) * 128 * 4
    assert planned.footprint.total.max() < cluster.ranks.bytes
    assert all(ms >= 0 for ms in step_ms(planned).values())
    assert "do not fit 64 rank(s)" in str(fit(layout, experiment, read_cluster("device=h100,world_size=64")).why_not)


@pytest.mark.parametrize(
    "described", ["world_size=4,ranks_per_host=2", "device=h100,world_size=128", "device=h100,world_size=8"]
)
def test_a_slower_network_or_memory_takes_as_much_longer_and_changes_no_plan(path, described):
    experiment = load_experiment(path, kinds=KINDS)
    layout = planned_layout(experiment, ROWS | {"id_user": 300_000, "id_item": 700_000}, None)
    small = experiment.model_copy(update={"training": experiment.training.model_copy(update={"batch_size": 1024})})
    usual = read_cluster(described)
    slower = usual.model_copy(
        update={name: usual.get(name) / 10 for name in ("between_gb_s", "inside_gb_s", "memory_gb_s")}
    )
    one, other = (fit(layout, small, cluster) for cluster in (usual, slower))
    assert one.footprint is not None
    assert other.footprint is not None
    for name, table in one.footprint.tables.items():
        assert other.footprint.tables[name].kind == table.kind
        assert (other.footprint.tables[name].weights == table.weights).all()
    for part in ("table lookups and updates", "exchange of lookups", "exchange of dense gradients"):
        assert step_ms(other)[part] == pytest.approx(10 * step_ms(one)[part], rel=0.05), part


def test_the_smallest_number_of_ranks_fits_and_one_host_less_does_not(path):
    experiment = load_experiment(path, kinds=KINDS)
    layout = planned_layout(experiment, ROWS, None)
    enough = smallest(layout, experiment, read_cluster("device=h100,world_size=8"))
    assert enough is not None
    assert enough.cluster.world_size % 8 == 0
    fewer = enough.cluster.model_copy(update={"world_size": enough.cluster.world_size - 8})
    assert fit(layout, experiment, fewer).why_not is not None


def test_a_rank_too_full_of_activations_is_told(path):
    experiment = load_experiment(path, ["training.batch_size=100000"], kinds=KINDS)
    rows = ROWS | {"id_user": 1000, "id_item": 1000}
    layout = planned_layout(experiment, rows, None)
    told = fit(layout, experiment, read_cluster("device=cpu,host_memory_gib=2")).why_not
    assert told is not None
    assert "most of it for activations" in told


def test_more_candidates_than_a_rank_can_hold_are_told(path):
    path.write_text(YAML.replace("history: {}", "history: {column: past, max_length: 9}"))
    changes = ["model.history.encoder=sasrec", "model.next_item.loss=softmax"]
    experiment = load_experiment(path, changes, kinds=KINDS)
    layout = planned_layout(experiment, ROWS, None)
    told = fit(layout, experiment, read_cluster("device=h100,world_size=96")).why_not
    assert "a step has 6,9" in str(told)
    assert "next_item.loss" in str(told)


@pytest.mark.parametrize("world_size", [1, 8, 16])
def test_a_table_to_train_on_gpus_is_never_replicated(path, world_size):
    """Replicated tables have no fused optimizer: nothing would move them."""
    experiment = load_experiment(path, kinds=KINDS)
    layout = planned_layout(experiment, ROWS | {"id_user": 1000, "id_item": 500}, None)
    planned = footprint(layout, experiment, read_cluster("device=h100", world_size=world_size).ranks)
    assert "data_parallel" not in {table.kind for table in planned.tables.values()}


@pytest.mark.parametrize(
    ("described", "told"),
    [
        ("devise=h100", "Did you mean 'device'"),
        ("device=h300", "'a100-80', 'h100' or 'h200'"),
        ("world_size=0", "greater than or equal to 1"),
        ("absent.yaml", "no such file"),
    ],
)
def test_a_wrong_cluster_is_refused(described, told):
    with pytest.raises(UserError, match=told):
        read_cluster(described)


def test_a_cluster_file_and_what_comes_before_it(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text("device: a100-80\nworld_size: 16\ndevice_memory_gib: 40\n")
    cluster = read_cluster(str(path), world_size=32)
    assert (cluster.world_size, cluster.ranks.device_bytes, cluster.ranks.per_host) == (32, 40 * 2**30, 8)


def test_rows_are_said_or_counted(path):
    experiment = load_experiment(path, kinds=KINDS)
    with pytest.raises(UserError, match=r"none/\*.parquet.*--rows feature_hour=1000000"):
        planned_layout(experiment, {}, None)
    with pytest.raises(UserError, match="Did you mean 'feature_hour'"):
        planned_layout(experiment, {"feature_our": 3}, None)


def test_the_command_tells_what_to_do_and_draws_what_fits(path, tmp_path):
    run = CliRunner().invoke(
        app, ["plan", str(path), "--world-size", "8", "--device", "h100", "--rows", "feature_hour=24"]
    )
    assert run.exit_code == 1
    assert "88 ranks on 11 such host(s) are enough" in run.output
    report = tmp_path / "plan.html"
    small = "feature_hour=24,id_user=1e5,id_item=2e5"
    run = CliRunner().invoke(app, ["plan", str(path), "--world-size", "4", "--rows", small, "--report", str(report)])
    assert run.exit_code == 0, run.output
    assert "the smallest number that does is 1" in run.output
    assert "200,000" in run.output
    page = report.read_text()
    assert "all tables" in page
    assert "id_item (" in page


def test_the_planners_choice_does_not_depend_on_hashes_of_strings():
    """Of kinds that cost the same the first one is taken, so they come in one order, whatever set they came out of."""
    kinds = ["table_wise", "column_wise", "row_wise", "table_row_wise", "table_column_wise", "grid_shard"]
    constraints = {"table": ParameterConstraints(sharding_types=kinds)}
    enumerator = planning._InOrder(planning._topology(Ranks("cpu", 16, 8, 2**34)), 32, constraints)
    for allowed in (kinds, kinds[::-1], sorted(kinds)):
        assert enumerator._filter_sharding_types("table", allowed) == kinds
