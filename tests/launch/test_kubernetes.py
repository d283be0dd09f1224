"""Kubernetes jobs, rendered by TorchX and held against what Kubernetes and Volcano accept. None has run on a cluster."""

import json
import os
import re
import subprocess
import sys
from importlib import metadata

import jsonschema
import kubernetes_validate
import pytest
import yaml
from torch.distributed.run import get_args_parser
from torchx.cli.argparse_util import ArgOnceAction, torchxconfig
from torchx.cli.main import main as torchx
from torchx.runner import config, get_runner
from torchx.specs import named_resources
from torchx.specs.finder import ComponentValidationException

from .rendered import IMAGE, ROOT, container, environment, printed, rendered, templates

# Only the cluster would see these files.
TRAIN = ["--check", "False", "--experiment", "/data/shop.yaml", "--run", "/data/runs/shop"]
GPUS = ["--nnodes", "2", "--nproc", "8", "-h", "h100_8", "--max_retries", "3"]
MOUNTS = ["--mounts", "type=volume,src=data,dst=/data,type=bind,src=/scratch,dst=/scratch,readonly"]
COMPONENTS = {
    "embed": ["--check", "False", "--experiment", "/data/shop.yaml"],
    "tokenize": ["--check", "False", "--experiment", "/data/shop.yaml"],
    "train": [*TRAIN, *GPUS, *MOUNTS, "--pod", str(ROOT / "examples/pod.json"), "--env", "NCCL_DEBUG=WARN"],
    "evaluate": ["--check", "False", "--run", "/data/runs/shop", "-h", "cpu_8"],
    "score": [
        *["--check", "False", "--run", "/data/runs/shop", "--input", "/data/in/*.parquet"],
        *["--output", "/data/out", "--", "--domain", "a"],
    ],
    "tune": ["--experiment", "/data/shop.yaml", "--out", "/data/tune", "--nnodes", "2", "-h", "h100_1"],
    "study": ["--out", "/data/study", "--data", "/data/public", "--pod", str(ROOT / "examples/pod.json")],
}
VERSIONS = [kubernetes_validate.utils.all_versions()[0], kubernetes_validate.latest_version()]


def kind(name, **fields):
    return {"apiVersion": "v1", "kind": name, **fields}


def accepted(resource):
    """Kubernetes' published schemas, oldest and newest of the package; unknown fields are refused."""
    for version in VERSIONS:
        kubernetes_validate.validate(resource, version, strict=True)


# Volcano's schema is in no package of PyPI, npm or Debian (docs/how-to/kubernetes.md). These are the fields that TorchX renders, in
# our own words from what Volcano publishes: github.com/volcano-sh/volcano, config/crd/volcano/bases/batch.volcano.sh_jobs.yaml,
# and what its admission webhook asks for, pkg/webhooks/admission/jobs/validate.
LABEL = {"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}
COUNT = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}


def fields(required, **properties):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


POLICY = fields(
    ["action", "event"],
    action={"enum": ["AbortJob", "RestartJob", "RestartTask", "TerminateJob", "CompleteJob", "ResumeJob"]},
    event={"enum": ["*", "PodFailed", "PodEvicted", "Unknown", "TaskCompleted", "TaskFailed"]},
)
TASK = fields(
    ["name", "replicas", "template"],
    name=LABEL,
    replicas=COUNT,
    minAvailable=COUNT,
    maxRetry=COUNT,
    policies={"type": "array", "items": POLICY},
    template={"type": "object"},
)
SPEC = fields(
    ["schedulerName", "queue", "tasks", "plugins"],
    schedulerName=LABEL,
    queue=LABEL,
    priorityClassName=LABEL,
    maxRetry=COUNT,
    plugins=fields(["svc", "env"], svc={"enum": [["--publish-not-ready-addresses"]]}, env={"enum": [[]]}),
    tasks={"type": "array", "minItems": 1, "items": TASK},
)
JOB = fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "batch.volcano.sh/v1alpha1"},
    kind={"const": "Job"},
    metadata=fields(
        ["name"], name={**LABEL, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}
    ),  # a Service gets this name too
    spec=SPEC,
)


@pytest.mark.parametrize("name", COMPONENTS)
def test_what_is_rendered_is_what_the_published_schemas_ask_for(name, monkeypatch, capsys):
    # They remember what has been given in this process, to refuse it a second time.
    monkeypatch.setattr(torchxconfig, "called_args", set())
    monkeypatch.setattr(ArgOnceAction, "called_args", set())
    cfg = "queue=default,namespace=training,service_account=trainer,priority_class=batch"
    options = ["--dryrun", "-s", "kubernetes", "--workspace", "", "-cfg", cfg]
    torchx(["run", *options, f"foundrank.{name}", *IMAGE, *COMPONENTS[name]])
    job = printed(capsys.readouterr().out)
    jsonschema.validate(job, JOB)
    accepted(kind("ConfigMap", metadata=job["metadata"]))
    for template in templates(job):
        accepted(kind("PodTemplate", metadata={"name": "any"}, template=template))
    tasks = job["spec"]["tasks"]
    assert len({task["name"] for task in tasks}) == len(tasks)
    # All nodes or none: the gang is the sum over tasks.
    assert (
        sum(task.get("minAvailable", task["replicas"]) for task in tasks)
        == len(tasks)
        == (2 if "--nnodes" in COMPONENTS[name] else 1)
    )
    # The pod's name is its host name.
    assert all(len(f"{job['metadata']['name']}-{task['name']}-0") <= 63 for task in tasks)
    assert {template["spec"]["serviceAccountName"] for template in templates(job)} == {"trainer"}
    assert job["spec"]["priorityClassName"] == "batch"


@pytest.mark.parametrize(
    "where", [(), ("spec",), ("spec", "containers", 0), ("spec", "volumes", 0, "emptyDir"), ("metadata",)]
)
def test_an_unknown_field_of_a_pod_is_refused(where):
    [template] = templates(rendered("train", *TRAIN))
    inner = template
    for step in where:
        inner = inner[step]
    inner["sizelimit"] = "1Gi"
    with pytest.raises(kubernetes_validate.ValidationError, match="sizelimit"):
        accepted(kind("PodTemplate", metadata={"name": "any"}, template=template))


@pytest.mark.parametrize("where", [(), ("spec",), ("spec", "tasks", 0), ("spec", "tasks", 0, "policies", 0)])
def test_an_unknown_field_of_a_volcano_job_is_refused(where):
    job = rendered("train", *TRAIN, *GPUS)
    inner = job
    for step in where:
        inner = inner[step]
    inner["retries"] = 1
    with pytest.raises(jsonschema.ValidationError, match="retries"):
        jsonschema.validate(job, JOB)


def words(template, **variables):
    """What torchrun is given, after the shell has put variables in."""
    bash, flag, line = container(template)["command"]
    assert line.startswith("torchrun ")
    line = line.replace("torchrun", r"printf '%s\n'", 1)
    done = subprocess.run([bash, flag, line], env=variables, capture_output=True, text=True, check=True)
    return get_args_parser().parse_args(done.stdout.split("\n")[:-1])


def test_nodes_meet_at_the_first_one_that_volcano_names_to_all():
    job = rendered("train", *TRAIN, *GPUS)
    name, tasks = job["metadata"]["name"], job["spec"]["tasks"]
    # The svc plugin: a variable for each task, host names of its pods, `pod.job`, also before they are ready.
    hosts = {f"VC_{task['name'].upper().replace('-', '_')}_HOSTS": f"{name}-{task['name']}-0.{name}" for task in tasks}
    given = [words(template, **hosts, **environment(template)) for template in templates(job)]
    assert [one.rdzv_endpoint for one in given] == ["localhost:29500", f"{name}-train-0-0.{name}:29500"]
    assert {(one.rdzv_backend, one.rdzv_id, one.nnodes, one.nproc_per_node) for one in given} == {
        ("c10d", name, "2", "8")
    }
    for template in templates(job):
        assert environment(template)["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
        assert {"containerPort": 29500, "name": "c10d"} in container(template)["ports"]


def test_torchrun_waits_for_the_first_node_as_long_as_that_one_waits(monkeypatch):
    [template, _] = templates(rendered("train", *TRAIN, *GPUS))
    monkeypatch.setenv("PET_RDZV_CONF", environment(template)["PET_RDZV_CONF"])
    assert get_args_parser().parse_args(["-m", "any"]).rdzv_conf == "read_timeout=600"


def test_a_pod_has_shared_memory_gpus_volumes_and_time_to_save():
    for template in templates(rendered("train", *TRAIN, *GPUS, *MOUNTS)):
        spec, mounts = template["spec"], container(template)["volumeMounts"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        at = {mount["mountPath"]: volumes[mount["name"]] for mount in mounts}
        assert at["/dev/shm"]["emptyDir"] == {"medium": "Memory"}
        assert at["/data"]["persistentVolumeClaim"]["claimName"] == "data"
        assert at["/scratch"]["hostPath"]["path"] == "/scratch"
        assert [mount["readOnly"] for mount in mounts if mount["mountPath"] == "/scratch"] == [True]
        assert container(template)["resources"]["limits"]["nvidia.com/gpu"] == "8"
        assert spec["restartPolicy"] == "Never"  # Volcano restarts the whole job
        assert spec["terminationGracePeriodSeconds"] == 300
        assert environment(template)["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "285"


def test_retries_restart_the_whole_job_and_without_them_nothing_does():
    job = rendered("train", *TRAIN, *GPUS)
    for task in job["spec"]["tasks"]:
        assert {policy["event"]: policy["action"] for policy in task["policies"]} == {
            "PodEvicted": "RestartJob",
            "PodFailed": "RestartJob",
        }
    assert job["spec"]["maxRetry"] == 3
    assert not any("policies" in task for task in rendered("train", *TRAIN)["spec"]["tasks"])


def laid_over(tmp_path, pod, *arguments):
    file = tmp_path / "pod.json"
    file.write_text(pod if isinstance(pod, str) else json.dumps(pod))
    return templates(rendered("train", *TRAIN, *arguments, "--pod", str(file)))


def test_the_example_is_laid_over_every_pod_and_the_rest_stays():
    arguments = [*TRAIN, *GPUS, *MOUNTS]
    plain = templates(rendered("train", *arguments))
    pods = templates(rendered("train", *arguments, "--pod", str(ROOT / "examples/pod.json")))
    example = json.loads((ROOT / "examples/pod.json").read_text())["spec"]
    for before, after in zip(plain, pods, strict=True):
        for field in ("tolerations", "nodeSelector", "imagePullSecrets", "securityContext"):
            assert after["spec"][field] == example[field]
        # The shared memory is replaced by name, the mounts are still there.
        assert sorted(volume["name"] for volume in after["spec"]["volumes"]) == ["dshm", "mount-0", "mount-1"]
        assert example["volumes"][0] in after["spec"]["volumes"]
        assert after["spec"]["terminationGracePeriodSeconds"] == 600
        old, new = container(before), container(after)
        assert {**old, **new}["image"] == old["image"]
        assert new["resources"] == old["resources"]
        assert new["volumeMounts"] == old["volumeMounts"]
        assert new["envFrom"] == [{"secretRef": {"name": "object-storage"}}]
        assert {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}} in new["env"]
        changed = {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "585"}
        ids = {name: environment(after)[name] for name in ("TORCHX_JOB_ID",)}  # made anew for each job
        assert environment(after) == environment(before) | changed | ids


def test_what_the_file_says_goes_before_what_is_set_by_default(tmp_path):
    mine = {"PET_RDZV_CONF": "read_timeout=60", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "9", "LOGLEVEL": "INFO"}
    env = [{"name": name, "value": value} for name, value in mine.items()]
    limits = {"resources": {"limits": {"rdma/ib": "1"}}}
    pod = {"metadata": {"labels": {"team": "ranking"}}, "spec": {"containers": [{"env": env, **limits}]}}
    [template] = laid_over(tmp_path, pod, "--gpu", "8")
    names = [entry["name"] for entry in container(template)["env"]]
    assert len(names) == len(set(names))
    assert environment(template).items() >= mine.items()
    assert container(template)["resources"]["limits"].keys() == {"cpu", "memory", "nvidia.com/gpu", "rdma/ib"}
    assert (
        template["metadata"]["labels"].items() >= {"team": "ranking", "torchx.pytorch.org/role-name": "train"}.items()
    )


@pytest.mark.parametrize(
    ("pod", "what"),
    [
        ("{", "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2"),
        ([], "is not an object"),
        ({"spec": []}, "is not an object whose 'spec' is an object"),
        ({"tolerations": []}, "has 'tolerations'; only 'metadata' and 'spec'"),
        ({"spec": {"containers": [{}, {}]}}, "'containers' must be a list of one object"),
        ({"spec": {"containers": [{"name": "train-0"}]}}, "must have no 'name'"),
        ({"spec": {"containers": [{"env": {"A": "1"}}]}}, "'env' must be a list of objects, each with 'name'"),
        ({"spec": {"volumes": [{"emptyDir": {}}]}}, "'volumes' must be a list of objects, each with 'name'"),
        ({"spec": {"terminationGracePeriodSeconds": "5m"}}, "must be a number of seconds"),
    ],
)
def test_a_file_that_is_not_laid_over_a_pod_is_told_before_anything_is_submitted(tmp_path, pod, what):
    with pytest.raises(ComponentValidationException) as told:
        laid_over(tmp_path, pod)
    assert str(tmp_path / "pod.json") in str(told.value)
    assert what in str(told.value)


def test_a_file_that_is_not_there_is_told():
    with pytest.raises(ComponentValidationException, match=r"nowhere/pod\.json: cannot be read: No such file"):
        rendered("train", *TRAIN, "--pod", "nowhere/pod.json")


@pytest.mark.parametrize("name", ["cpu_8", "cpu_32", "a100_1", "a100_8", "h100_1", "h100_8", "h200_1", "h200_8"])
def test_named_resources_are_what_their_names_say(name):
    [template] = templates(rendered("train", *TRAIN, "--nproc", "1", "-h", name))
    device, count = name.split("_")
    limits = container(template)["resources"]["limits"]
    if device == "cpu":
        assert limits["cpu"] == f"{count}000m"
    assert limits.get("nvidia.com/gpu") == (None if device == "cpu" else count)
    assert int(limits["memory"].removesuffix("M")) >= 30_000


def test_other_schedulers_do_not_read_the_file():
    arguments = [*TRAIN, "--pod", "nowhere/pod.json"]
    with get_runner() as runner:
        assert "foundrank train" in str(
            runner.dryrun_component("foundrank.train", arguments, "slurm", {"partition": "any"})
        )


def test_kubernetes_puts_no_variables_into_what_is_given():
    [template] = templates(rendered("train", *TRAIN, "--env", "A=$(HOME)$$", "--", "--set", "name=$(HOME)$$x"))
    # As the kubelet does: $$ is $, and $(NAME) the variable's value.
    told = [word.replace("$$", "$") for word in (container(template)["command"][2], environment(template)["A"])]
    assert "$$(HOME)$$$$x" in container(template)["command"][2]
    assert "'name=$(HOME)$$x'" in told[0]
    assert told[1] == "$(HOME)$$"


def test_a_study_has_no_torchrun_and_the_same_pod():
    [template] = templates(rendered("study", *COMPONENTS["study"]))
    assert container(template)["command"][:2] == ["foundrank", "study"]
    assert template["spec"]["terminationGracePeriodSeconds"] == 600


def test_the_configuration_at_the_root_is_read_there(tmp_path):
    # Neither --workspace nor a queue, which TorchX asks for. A home has a configuration of its own.
    words = [
        sys.executable,
        "-m",
        "torchx.cli.main",
        "run",
        "--dryrun",
        "-s",
        "kubernetes",
        "foundrank.train",
        *IMAGE,
        *TRAIN,
    ]
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(words, cwd=ROOT, env=home, capture_output=True, text=True, check=True)
    job = printed(done.stdout)
    jsonschema.validate(job, JOB)
    assert job["spec"]["queue"] == "default"


@pytest.mark.parametrize("scheduler", ["local_cwd", "slurm", "kubernetes"])
def test_each_option_of_the_configuration_is_one_of_its_scheduler(scheduler):
    cfg = {}
    config.apply(scheduler, cfg, dirs=[str(ROOT)])
    with get_runner() as runner:
        options = dict(runner.scheduler_run_opts(scheduler))
    assert cfg
    assert cfg.keys() <= options.keys()


def test_the_document_s_example_and_configuration_work_as_they_stand(tmp_path):
    text = (ROOT / "docs/how-to/kubernetes.md").read_text()
    assert f"```json\n{(ROOT / 'examples/pod.json').read_text()}```" in text
    (tmp_path / ".torchxconfig").write_text(text.partition("```ini\n")[2].partition("```")[0])
    cfg = {}
    config.apply("kubernetes", cfg, dirs=[str(tmp_path)])
    defaults = config.load_sections("component", dirs=[str(tmp_path)])
    defaults["foundrank.train"]["pod"] = str(ROOT / "examples" / defaults["foundrank.train"]["pod"])
    with get_runner(component_defaults=defaults) as runner:
        info = runner.dryrun_component("foundrank.train", TRAIN, "kubernetes", cfg)
    [template] = templates(yaml.safe_load(str(info.request)))
    assert (cfg["queue"], cfg["namespace"]) == ("research", "training")
    assert template["spec"]["serviceAccountName"] == "trainer"
    assert template["spec"]["terminationGracePeriodSeconds"] == 600
    assert container(template)["image"] == "IMAGE"


def test_the_document_s_resources_are_those_that_are_registered():
    table = (ROOT / "docs/how-to/kubernetes.md").read_text().partition("| `-h` |")[2].partition("\n\n")[0]
    ours = metadata.entry_points().select(group="torchx.named_resources")
    names = [one.name for one in ours if one.value.startswith("foundrank.")]
    assert set(names) == set(re.findall(r"`(\w+_\d+)`", table))
    for row in table.splitlines()[2:]:
        cells = [cell.replace(",", "").split() for cell in re.sub(r"\(.*?\)|(?<=\d),(?=\d)", "", row).split("|")[1:-1]]
        for at, name in enumerate(re.findall(r"`(\w+)`", row)):
            one = named_resources[name]
            gpus = int(cells[3][at]) if cells[3] else 0
            assert (one.cpu, one.memMB, one.gpu) == (int(cells[1][at]), 1000 * int(cells[2][at]), gpus)
