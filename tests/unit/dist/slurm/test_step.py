"""What Slurm's variables say of a task, and when they say that it is a rank."""

import pytest

from foundrank.data.errors import UserError
from foundrank.dist.slurm.step import MEETING, Step, become_rank, expanded, step_here

TASK = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "1",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2),1",
    "SLURM_STEP_NODELIST": "n[09-10],login",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
}


def test_a_task_of_a_step_is_a_rank():
    assert step_here(None, TASK) == Step("7.1", 3, 5, 1, 2, 1, ("n09", "n10", "login"))
    last = TASK | {"SLURM_PROCID": "4", "SLURM_LOCALID": "0", "SLURM_NODEID": "2"}
    assert step_here(None, last) == Step("7.1", 4, 5, 0, 1, 2, ("n09", "n10", "login"))
    even = {name: value for name, value in TASK.items() if "TASKS_PER_NODE" not in name} | {"SLURM_STEP_NUM_TASKS": "6"}
    assert step_here(None, even) == Step("7.1", 3, 6, 1, 2, 1, ("n09", "n10", "login"))


@pytest.mark.parametrize(
    "other",
    [
        {"SLURM_STEP_ID": ""},  # a batch script of several tasks
        {"SLURM_STEP_ID": "4294967291"},  # the same, as newer versions say it
        {"SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_PTY_PORT": "6000"},  # somebody's shell
        {"RANK": "0", "WORLD_SIZE": "2"},  # torchrun's
    ],
)
def test_elsewhere_it_is_not(other: dict[str, str]):
    assert step_here(2, TASK | other) is None


def test_what_does_not_go_together_is_told():
    with pytest.raises(UserError, match=r"-p 2: is given to each of the 5 tasks"):
        step_here(2, TASK)
    with pytest.raises(UserError, match=r"does not say where 5 tasks are on 3 nodes"):
        step_here(None, TASK | {"SLURM_STEP_TASKS_PER_NODE": "2,2"})
    with pytest.raises(UserError, match=r"SLURM_PROCID: is 'x', and no number"):
        step_here(None, TASK | {"SLURM_PROCID": "x"})


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        ("n1", ["n1"]),
        ("n[001-003,7],login", ["n001", "n002", "n003", "n7", "login"]),
        ("127.0.0.[1-2]", ["127.0.0.1", "127.0.0.2"]),
        ("a,b", ["a", "b"]),
        ("r[1-2]n[8-9]", ["r1n8", "r1n9", "r2n8", "r2n9"]),
        ("gpu-[9-10]-x", ["gpu-9-x", "gpu-10-x"]),
    ],
)
def test_lists_of_nodes(nodes: str, names: list[str]):
    assert expanded(nodes) == names


@pytest.mark.parametrize("nodes", ["", "n[1-x]", "n[a]"])
def test_what_is_no_list_of_nodes(nodes: str):
    with pytest.raises(UserError, match="SLURM_STEP_NODELIST"):
        expanded(nodes)


def test_tasks_of_one_node_meet_in_a_folder_and_others_at_the_first(monkeypatch, tmp_path):
    environment: dict[str, str] = {"SLURM_CPUS_PER_TASK": "4"}
    monkeypatch.setattr("foundrank.dist.slurm.step.os.environ", environment)
    monkeypatch.setattr("foundrank.dist.slurm.step.tempfile.gettempdir", lambda: str(tmp_path))
    become_rank(Step("7.1", 3, 4, 3, 4, 0, ("n1",)))
    assert (environment["RANK"], environment["LOCAL_WORLD_SIZE"], environment["OMP_NUM_THREADS"]) == ("3", "4", "4")
    assert environment[MEETING].startswith(f"{tmp_path}/foundrank-")
    assert "MASTER_ADDR" not in environment
    environment.clear()
    become_rank(Step("7.1", 3, 4, 1, 2, 1, ("n1", "n2")))
    assert (environment["MASTER_ADDR"], environment["GROUP_WORLD_SIZE"]) == ("n1", "2")
    assert 20_000 <= int(environment["MASTER_PORT"]) < 30_000
    assert MEETING not in environment
