"""What a component refuses or tells once TorchX says which scheduler the job is for."""

import pytest
import torchx
from torchx.runner import get_runner
from torchx.specs.finder import ComponentValidationException

JOBS = {
    "embed": ["--check", "False", "--experiment", "/data/shop.yaml"],
    "tokenize": ["--check", "False", "--experiment", "/data/shop.yaml"],
    "train": ["--check", "False", "--experiment", "/data/shop.yaml", "--run", "/data/run", "--nnodes", "2"],
    "evaluate": ["--check", "False", "--run", "/data/run"],
    "compare": ["--check", "False", "--base", "/data/a", "--other", "/data/b"],
    "score": ["--check", "False", "--run", "/data/run", "--input", "/data/in", "--output", "/data/out"],
    "recommend": ["--check", "False", "--run", "/data/run", "--users", "/data/in", "--output", "/data/out"],
    "tune": ["--experiment", "/data/shop.yaml", "--out", "/data/tune", "--nnodes", "2"],
    "study": ["--out", "/data/study", "--data", "/data/public"],
}
CFG = {
    "kubernetes": {"queue": "default"},
    "kubernetes_mcad": {"namespace": "default"},
    "aws_batch": {"queue": "default"},
    "local_docker": {},
    "slurm": {"partition": "any"},
    "local_cwd": {},
}
OWN = ["--image", "registry.example/foundrank:1"]


def made(component, scheduler, *options):
    with get_runner() as runner:
        return runner.dryrun_component(
            f"foundrank.{component}", [*JOBS[component], *options], scheduler, CFG[scheduler]
        )


@pytest.mark.parametrize(
    ("component", "scheduler"),
    [*((component, "kubernetes") for component in JOBS), *(("train", scheduler) for scheduler in list(CFG)[1:4])],
)
def test_no_job_that_runs_in_an_image_gets_one_without_foundrank(component, scheduler):
    for given in ([], ["--image", torchx.IMAGE]):
        with pytest.raises(ComponentValidationException, match=r"--image is not given.*Give --image"):
            made(component, scheduler, *given)
    assert OWN[1] in str(made(component, scheduler, *OWN))


@pytest.mark.parametrize("scheduler", ["slurm", "local_cwd"])
def test_jobs_in_the_environment_on_path_need_no_image_and_are_told_what_has_no_effect(scheduler, capsys):
    made("score", scheduler)
    assert "warning" not in capsys.readouterr().err
    made("score", scheduler, *OWN, "--pod", "pod.json", "--mounts", "type=bind,src=/data,dst=/data")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [line.split()[1] for line in said] == ["--image", "--mounts", "--pod"]
    assert all("has no effect on" in line for line in said)


def test_pods_of_another_kind_are_not_laid_over_in_silence(capsys):
    made("train", "kubernetes_mcad", *OWN, "--pod", "pod.json")
    assert "warning: --pod pod.json has no effect on kubernetes_mcad" in capsys.readouterr().err


@pytest.mark.parametrize("component", JOBS)
def test_restarts_are_refused_where_there_are_none(component):
    with pytest.raises(ComponentValidationException, match=r"--max_retries 3: the scheduler local starts no job again"):
        made(component, "local_cwd", "--max_retries", "3")
    made(component, "local_cwd")
    assert "MAX_RETRIES=3" in str(made(component, "slurm", "--max_retries", "3"))


@pytest.mark.parametrize("component", ["train", "evaluate", "compare", "score", "recommend"])
def test_more_processes_than_gpus_are_refused(component, capsys):
    with pytest.raises(SystemExit):
        made(component, "slurm", "--nproc", "8", "--gpu", "4")
    assert "--nproc 8: more processes than the node's 4 GPU(s)" in capsys.readouterr().err
    made(component, "slurm", "--nproc", "4", "--gpu", "4")
