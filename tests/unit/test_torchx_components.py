import shlex
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser
from torchx.components.component_test_base import ComponentTestCase
from torchx.runner import get_runner
from typer.main import get_command

from foundrank.dist.cli import app
from foundrank.dist.launch import SIGNALS
from foundrank.torchx_components import jobs

ROOT = Path(__file__).parents[2]
COMPONENTS = {
    "embed": ["--experiment", "my exp.yaml"],
    "train": ["--experiment", "my exp.yaml", "--run", "runs/a"],
    "evaluate": ["--run", "runs/a"],
    "score": ["--run", "runs/a", "--input", "in/*.parquet", "--output", "out"],
    "recommend": ["--run", "runs/a", "--users", "in/*.parquet", "--output", "out"],
}
EXTRA = {
    "embed": ["--set", "text.batch_tokens=8"],
    "train": ["--set", "training.epochs=1"],
    "evaluate": ["--split", "validation"],
    "score": ["--domain", "shop"],
    "recommend": ["--k", "50"],
}
COMMANDS = {
    "embed": ["my exp.yaml"],
    "train": ["my exp.yaml", "--run-dir", "runs/a"],
    "evaluate": ["runs/a"],
    "score": ["runs/a", "in/*.parquet", "out"],
    "recommend": ["runs/a", "in/*.parquet", "out"],
}


class TestComponents(ComponentTestCase):
    def test_each_passes_the_torchx_linter_and_has_help(self):
        for name in (*COMPONENTS, "study"):
            self.validate(jobs, name)


def dryrun(component, arguments, scheduler="local_cwd", check=False, **cfg):
    with get_runner() as runner:
        return runner.dryrun_component(component, ["--check", str(check), *arguments], scheduler, cfg)


def local_command(info) -> list[str]:
    """The shell words of the one command that the local scheduler would start."""
    [replicas] = info.request.role_params.values()
    bash, flag, line = replicas[0].args
    assert (bash, flag) == ("bash", "-c")
    return shlex.split(line)


@pytest.mark.parametrize("name", COMPONENTS)
@pytest.mark.parametrize("form", ["{root}/torchx_components/jobs.py:{name}", "foundrank.{name}"])
def test_the_local_scheduler_starts_torchrun_on_the_command(name, form):
    info = dryrun(form.format(root=ROOT, name=name), [*COMPONENTS[name], "--", *EXTRA[name]])
    words = local_command(info)
    assert words[0] == "torchrun"
    parsed = get_args_parser().parse_args(words[1:])
    assert (parsed.nnodes, parsed.nproc_per_node) == ("1", "1" if name == "embed" else "2")
    assert parsed.rdzv_endpoint == "localhost:0"
    assert {one.name for one in SIGNALS} <= set(parsed.signals_to_handle.split(","))
    assert parsed.module
    assert parsed.training_script == "foundrank.dist.cli"
    assert parsed.training_script_args == [name, *COMMANDS[name], *EXTRA[name]]
    assert list(info.request.role_params) == [name]


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_command_line_takes_what_the_component_passes(name):
    command = get_command(app).commands[name]
    assert command.make_context(name, [*COMMANDS[name], *EXTRA[name]]).params


def test_resources_and_environment_reach_the_role():
    arguments = [*COMPONENTS["train"], "--nproc", "8", "--cpu", "16", "--gpu", "8", "--memMB", "1000"]
    arguments += ["--env", "A=1,B=2", "--max_retries", "3", "--mounts", "type=bind,src=/data,dst=/in"]
    info = dryrun("foundrank.train", arguments)
    [role] = info._app.roles
    assert (role.resource.cpu, role.resource.gpu, role.resource.memMB) == (16, 8, 1000)
    assert role.env["A"] == "1"
    assert role.env["B"] == "2"
    assert role.max_retries == 3
    assert [(m.src_path, m.dst_path) for m in role.mounts] == [("/data", "/in")]
    assert "8" in local_command(info)


def test_several_nodes_meet_at_rank_0_on_slurm():
    info = dryrun("foundrank.train", [*COMPONENTS["train"], "--nnodes", "2"], "slurm", partition="debug")
    script = str(info)
    assert script.count("torchrun") == 2
    assert "SLURM_JOB_NODELIST_HET_GROUP_0" in script
    assert ":29500" in script
    assert "--nnodes 2" in script


def test_a_study_is_one_process_of_its_own():
    with get_runner() as runner:
        arguments = [
            "--out",
            "o",
            "--data",
            "d",
            "--mounts",
            "type=bind,src=/data,dst=/in",
            "--",
            "--only",
            "simulated",
        ]
        info = runner.dryrun_component("foundrank.study", arguments, "local_cwd", {})
    [role] = info._app.roles
    assert [role.entrypoint, *role.args] == ["foundrank", "study", "o", "--data", "d", "--only", "simulated"]
    assert [(m.src_path, m.dst_path) for m in role.mounts] == [("/data", "/in")]
    assert get_command(app).commands["study"].make_context("study", role.args[1:]).params["only"] == "simulated"


def test_jobs_that_share_a_node_can_meet_at_different_ports():
    for name in COMPONENTS:
        info = dryrun(
            f"foundrank.{name}",
            [*COMPONENTS[name], "--nnodes", "2", "--rdzv_port", "29501"],
            "slurm",
            partition="debug",
        )
        assert str(info).count(":29501") == 2


def test_a_caller_s_environment_is_not_changed():
    env = {"A": "1"}
    jobs.train("e.yaml", "r", env=env, check=False)
    assert env == {"A": "1"}
