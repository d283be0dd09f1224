import os
import shlex
import subprocess
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser
from torchx.components.component_test_base import ComponentTestCase
from torchx.runner import get_runner
from typer.main import get_command

from foundrank.dist.cli.app import app
from foundrank.dist.ranks.launch import SIGNALS
from foundrank.torchx_components import jobs
from foundrank.torchx_components.more import foundrank as more

ROOT = Path(__file__).parents[2]
COMPONENTS = {
    "embed": ["--experiment", "my exp.yaml"],
    "tokenize": ["--experiment", "my exp.yaml"],
    "train": ["--experiment", "my exp.yaml", "--run", "runs/a"],
    "count": ["--experiment", "my exp.yaml", "--counts", "counts"],
    "update": ["--run", "runs/a", "--events", "days/day=*/*.parquet"],
    "evaluate": ["--run", "runs/a"],
    "compare": ["--base", "A=runs/a,runs/b", "--other", "my B=runs/c,runs/d"],
    "score": ["--run", "runs/a", "--input", "in/*.parquet", "--output", "out"],
    "recommend": ["--run", "runs/a", "--users", "in/*.parquet", "--output", "out"],
    "align": ["--run", "runs/a", "--out", "my aligned", "--reward", "runs/b"],
}
EXTRA = {
    "embed": ["--set", "text.batch_tokens=8"],
    "tokenize": ["--export", "my codes.parquet"],
    "count": ["--set", "only=[shop]"],
    "train": ["--set", "training.epochs=1"],
    "update": ["--max-drop", "0.01"],
    "evaluate": ["--split", "validation"],
    "compare": ["runs/e", "--out", "found.json"],
    "score": ["--domain", "shop"],
    "recommend": ["--k", "50"],
    "align": ["--weights", "click=1,buy=3"],
}
COMMANDS = {
    "embed": ["my exp.yaml"],
    "tokenize": ["my exp.yaml"],
    "count": ["my exp.yaml", "counts"],
    "train": ["my exp.yaml", "--run-dir", "runs/a"],
    "update": ["runs/a", "--events", "days/day=*/*.parquet"],
    "evaluate": ["runs/a"],
    "compare": ["A=runs/a,runs/b", "my B=runs/c,runs/d"],
    "score": ["runs/a", "in/*.parquet", "out"],
    "recommend": ["runs/a", "in/*.parquet", "out"],
    "align": ["runs/a", "my aligned", "--reward", "runs/b"],
}


MORE = ("align",)
"""Those that are not in jobs.py."""
ALONE = ("embed", "tokenize")
"""Those that start one process unless they are told otherwise."""


class TestComponents(ComponentTestCase):
    def test_each_passes_the_torchx_linter_and_has_help(self):
        for name in (*COMPONENTS, "study", "tune"):
            self.validate(more if name in MORE else jobs, name)


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
@pytest.mark.parametrize("form", ["{root}/torchx_components/{file}.py:{name}", "foundrank.{name}"])
def test_one_machine_s_ranks_are_started_without_torchrun(name, form):
    file = "more/foundrank" if name in MORE else "jobs"
    info = dryrun(form.format(root=ROOT, file=file, name=name), [*COMPONENTS[name], "--", *EXTRA[name]])
    ranks = "1" if name in ALONE else "2"
    told = [*COMMANDS[name], *EXTRA[name]]
    assert local_command(info) == ["exec", "foundrank", name, "--processes", ranks, *told]
    assert list(info.request.role_params) == [name]


@pytest.mark.parametrize("name", COMPONENTS)
def test_several_machines_start_torchrun_on_the_command(name):
    info = dryrun(f"foundrank.{name}", [*COMPONENTS[name], "--nnodes", "2", "--", *EXTRA[name]])
    [replicas] = info.request.role_params.values()
    words = shlex.split(replicas[0].args[2])
    assert words[0] == "torchrun"
    parsed = get_args_parser().parse_args(words[1:])
    assert (parsed.nnodes, parsed.nproc_per_node) == ("2", "1" if name in ALONE else "2")
    assert {one.name for one in SIGNALS} <= set(parsed.signals_to_handle.split(","))
    assert parsed.module
    assert parsed.training_script == "foundrank.dist.cli"
    assert parsed.training_script_args == [name, *COMMANDS[name], *EXTRA[name]]


ODD = ["cost$$2026", "${img_root}", "${app_id}", "$HOME", "$(HOME)", "a b", "it's", '"q"', "`id`", "a\\b", "*", "ü"]


@pytest.mark.parametrize("nodes", ["1", "2"])
@pytest.mark.parametrize("scheduler", ["local_cwd", "slurm"])
def test_arguments_arrive_as_they_are_given(scheduler, nodes):
    given = ["--experiment", "e$$.yaml", "--run", "r", "--nnodes", nodes, "--env", "A=$HOME$$", "--", *ODD]
    info = dryrun("foundrank.train", given, scheduler, **({"partition": "any"} if scheduler == "slurm" else {}))
    if scheduler == "local_cwd":
        [replicas] = info.request.role_params.values()
        words, environment = replicas[0].args, replicas[0].env
    else:
        [replica, *_] = info.request.replicas.values()
        words, environment = [shlex.split(word)[0] for word in replica.materialize()[1][-3:]], replica.env
    assert environment["A"] == "$HOME$$"
    assert environment["PYTHONSAFEPATH"] == "1"
    line = words[2].replace("exec foundrank", "printf '%s\\n'", 1).replace("torchrun", "printf '%s\\n'", 1)
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, env={"HOME": "elsewhere"})
    assert done.stdout.splitlines()[-len(ODD) :] == ODD
    assert "e$$.yaml" in done.stdout.splitlines()


def test_a_study_s_arguments_arrive_as_they_are_given():
    with get_runner() as runner:
        info = runner.dryrun_component("foundrank.study", ["--out", "o$$", "--data", "${img_root}"], "local_cwd", {})
    [replicas] = info.request.role_params.values()
    assert replicas[0].args == ["foundrank", "study", "o$$", "--data", "${img_root}"]


def test_no_program_of_the_working_folder_runs(tmp_path, monkeypatch):
    """TorchX puts that folder before all others on PATH."""
    monkeypatch.chdir(tmp_path)
    info = dryrun("foundrank.train", COMPONENTS["train"])
    [replicas] = info.request.role_params.values()
    assert str(tmp_path) not in replicas[0].env["PATH"].split(os.pathsep)


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_command_line_takes_what_the_component_passes(name):
    command = get_command(app).commands[name]
    assert command.make_context(name, [*COMMANDS[name], *EXTRA[name]]).params


def test_resources_and_environment_reach_the_role():
    arguments = [*COMPONENTS["train"], "--nproc", "8", "--cpu", "16", "--gpu", "8", "--memMB", "1000"]
    arguments += ["--env", "A=1,B=2", "--mounts", "type=bind,src=/data,dst=/in"]
    info = dryrun("foundrank.train", arguments)
    [role] = info._app.roles
    assert (role.resource.cpu, role.resource.gpu, role.resource.memMB) == (16, 8, 1000)
    assert role.env["A"] == "1"
    assert role.env["B"] == "2"
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


def test_a_tuning_is_one_process_by_itself_on_each_machine():
    given = ["--experiment", "e$$.yaml", "--out", "o", "--nnodes", "3", "--gpu", "2", "--", "--trials", "8"]
    with get_runner() as runner:
        info = runner.dryrun_component("foundrank.tune", given, "local_cwd", {})
    [role] = info._app.roles
    assert (role.entrypoint, role.num_replicas, role.resource.gpu) == ("foundrank", 3, 2)
    [replicas] = info.request.role_params.values()
    assert [replica.args for replica in replicas] == [["foundrank", "tune", "e$$.yaml", "o", "--trials", "8"]] * 3
    assert (
        get_command(app).commands["tune"].make_context("tune", ["e.yaml", *replicas[0].args[3:]]).params["trials"] == 8
    )


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
