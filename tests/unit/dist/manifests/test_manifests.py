"""What ``foundrank manifest`` prints, held against what Kubernetes, Volcano and Kubeflow accept, and what a job needs of them."""

import subprocess
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from foundrank.data.errors import UserError
from foundrank.dist.cli.app import app

# Published schemas before 1.29 ask for conditions in every rule of a podFailurePolicy, which Kubernetes itself never did.
VERSIONS = ["1.29.0", kubernetes_validate.latest_version()]
VOLUME = ["--image", "registry.example/foundrank:cpu", "--volume", "shop=/data"]
COMMANDS = {
    "train": [*VOLUME, "/data/shop.yaml", "--run-dir", "/data/run"],
    "score": [*VOLUME, "/data/run", "s3://shop/in", "/data/scores", "--domain", "shop"],
    "update": [*VOLUME, "/data/run", "--events", "/data/days/day=*/*.parquet"],
    "embed": [*VOLUME, "/data/shop.yaml"],
    "tokenize": [*VOLUME, "/data/shop.yaml", "--export", "/data/codes.parquet"],
    "align": [*VOLUME, "/data/run", "/data/aligned", "--reward", "hits"],
}
KINDS = {
    "job": ["--kind", "job"],
    "job of several pods": ["--kind", "job", "--pods", "3", "--gpu", "1"],
    "cronjob": ["--kind", "cronjob", "--schedule", "30 3 * * *"],
    "cronjob of several pods": ["--kind", "cronjob", "--schedule", "@daily", "--pods", "2"],
    "pytorchjob": ["--kind", "pytorchjob"],
    "pytorchjob of several pods": ["--kind", "pytorchjob", "--pods", "3"],
    "volcano": ["--kind", "volcano", "-p", "4", "--gpu", "4"],
    "volcano of several pods": ["--kind", "volcano", "--pods", "3", "--retries", "0"],
}
EXTRAS = [
    *["--name", "nightly", "--namespace", "shops", "--memory", "16Gi", "--cpu", "4", "--cache", "kept"],
    *["--secret", "bucket", "--secret", "hub"],
]


def objects(command: str, *options: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["manifest", command, *options, *COMMANDS[command]], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "&" not in done.stdout.replace("&&", "")  # references
    return list(yaml.safe_load_all(done.stdout))


def templates(manifest: Any) -> list[dict[str, Any]]:
    """All pod templates in it."""
    if isinstance(manifest, list):
        return [one for part in manifest for one in templates(part)]
    if not isinstance(manifest, dict):
        return []
    found = [manifest["template"]] if "template" in manifest else []
    return found + templates(list(manifest.values()))


def container(manifest: Any) -> dict[str, Any]:
    [one] = templates(manifest)[0]["spec"]["containers"]
    return one


def fields(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


COUNT = {"type": "integer", "minimum": 0}
LABEL = {"type": "string", "maxLength": 45, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}
META = fields(["name", "labels"], name=LABEL, namespace=LABEL, labels={"type": "object"})
# Fields of objects whose schemas are in no package, in our own words from github.com/kubeflow/training-operator,
# pkg/apis/kubeflow.org/v1, and github.com/volcano-sh/volcano, config/crd/volcano/bases/batch.volcano.sh_jobs.yaml.
REPLICA = fields(
    ["replicas", "restartPolicy", "template"],
    replicas={"type": "integer", "minimum": 1},
    restartPolicy={"enum": ["Always", "OnFailure", "Never", "ExitCode"]},
    template={"type": "object"},
)
PYTORCH = fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "kubeflow.org/v1"},
    kind={"const": "PyTorchJob"},
    metadata=META,
    spec=fields(
        ["runPolicy", "pytorchReplicaSpecs"],
        runPolicy=fields(
            [],
            backoffLimit=COUNT,
            cleanPodPolicy={"enum": ["All", "Running", "None"]},
            ttlSecondsAfterFinished=COUNT,
        ),
        pytorchReplicaSpecs=fields(["Master"], Master=REPLICA, Worker=REPLICA),
    ),
)
POLICY = {
    **fields(
        ["action"],
        action={"enum": ["AbortJob", "RestartJob", "RestartTask", "TerminateJob", "CompleteJob", "ResumeJob"]},
        event={"enum": ["PodFailed", "PodEvicted", "TaskCompleted"]},
        exitCode={"type": "integer", "minimum": 1},
    ),
    "oneOf": [{"required": ["event"]}, {"required": ["exitCode"]}],
}
VOLCANO = fields(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "batch.volcano.sh/v1alpha1"},
    kind={"const": "Job"},
    metadata=META,
    spec=fields(
        ["schedulerName", "queue", "minAvailable", "plugins", "tasks"],
        schedulerName={"const": "volcano"},
        queue=LABEL,
        minAvailable=COUNT,
        maxRetry={"type": "integer", "minimum": 1},
        ttlSecondsAfterFinished=COUNT,
        plugins=fields([], env={"enum": [[]]}, svc={"enum": [["--publish-not-ready-addresses"]]}),
        tasks={
            "type": "array",
            "items": fields(
                ["name", "replicas", "template"],
                name=LABEL,
                replicas=COUNT,
                policies={"type": "array", "items": POLICY},
                template={"type": "object"},
            ),
        },
    ),
)
OTHERS = {"kubeflow.org/v1": PYTORCH, "batch.volcano.sh/v1alpha1": VOLCANO}


def restricted(pod: dict[str, Any]) -> bool:
    """Pod Security's level "restricted", as Kubernetes' documentation lists it."""
    spec = pod["spec"]
    ours = {**spec["securityContext"]}
    volumes = {key for volume in spec["volumes"] for key in volume if key != "name"}
    return (
        not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & spec.keys()
        and volumes <= {"emptyDir", "persistentVolumeClaim", "configMap", "secret", "projected", "downwardAPI"}
        and ours["runAsNonRoot"] is True
        and ours["runAsUser"] > 0
        and ours["seccompProfile"]["type"] == "RuntimeDefault"
        and all(
            one["securityContext"]["allowPrivilegeEscalation"] is False
            and one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            and not {"privileged", "procMount"} & one["securityContext"].keys()
            and not any("hostPort" in port for port in one.get("ports", []))
            for one in spec["containers"] + spec.get("initContainers", [])
        )
    )


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_cluster_accepts_what_is_printed(command, kind):
    made = objects(command, *KINDS[kind], *EXTRAS)
    for one in made:
        if one["apiVersion"] in OTHERS:
            jsonschema.validate(one, OTHERS[one["apiVersion"]])
        for version in VERSIONS:  # published schemas; unknown fields are refused
            if one["apiVersion"] not in OTHERS:
                kubernetes_validate.validate(one, version, strict=True)
            for template in templates(one):
                pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "any"}, "template": template}
                kubernetes_validate.validate(pod, version, strict=True)
        assert (one["metadata"]["name"], one["metadata"]["namespace"]) == ("nightly", "shops")
    for template in templates(made):
        assert restricted(template)
        assert template["spec"]["automountServiceAccountToken"] is False
        assert template["spec"]["serviceAccountName"] == made[0]["metadata"]["name"]
        assert template["spec"]["terminationGracePeriodSeconds"] == 300
        [main] = template["spec"]["containers"]
        limits = main["resources"]["limits"]
        assert (limits["cpu"], limits["memory"]) == ("4", "16Gi")
        assert main["envFrom"] == [{"secretRef": {"name": "bucket"}}, {"secretRef": {"name": "hub"}}]


def test_what_is_written_has_a_place():
    made = objects("train", *EXTRAS)
    main = container(made)
    assert main["securityContext"]["readOnlyRootFilesystem"] is True
    sources = {volume["name"]: volume for volume in templates(made)[0]["spec"]["volumes"]}
    mounted = {mount["mountPath"]: sources[mount["name"]] for mount in main["volumeMounts"]}
    assert mounted["/dev/shm"]["emptyDir"] == {"medium": "Memory", "sizeLimit": "16Gi"}
    assert mounted["/tmp"]["emptyDir"] == {}
    assert mounted["/cache"]["persistentVolumeClaim"] == {"claimName": "kept"}
    assert mounted["/data"]["persistentVolumeClaim"] == {"claimName": "shop"}
    env = {entry["name"]: entry["value"] for entry in main["env"]}
    assert env["HOME"] in mounted
    for name in ("FOUNDRANK_CACHE", "XDG_CACHE_HOME", "HF_HOME"):
        assert env[name].startswith("/cache")


def after(spec: dict[str, Any], status: int) -> str:
    """What a Job does when a pod ends with a status: the first rule that says something of it."""
    for rule in spec["podFailurePolicy"]["rules"]:
        if status in rule.get("onExitCodes", {}).get("values", []):
            return rule["action"]
    return "Count"


@pytest.mark.parametrize("kind", ["job", "cronjob", "job of several pods"])
def test_a_job_goes_on_after_75_counts_faults_and_gives_up_after_mistakes_and_thresholds(kind):
    spec = objects("score", *KINDS[kind], "--retries", "5")[-1]["spec"]
    if kind == "cronjob":
        assert spec["concurrencyPolicy"] == "Forbid"
        spec = spec["jobTemplate"]["spec"]
    told = {status: after(spec, status) for status in (1, 2, 3, 75, 137)}
    assert told == {1: "Count", 2: "FailJob", 3: "FailJob", 75: "Ignore", 137: "Count"}
    assert spec["backoffLimit"] == 5 * spec.get("completions", 1)
    assert spec["template"]["spec"]["restartPolicy"] == "Never"
    assert spec["ttlSecondsAfterFinished"] > 0


@pytest.mark.parametrize("kind", ["volcano", "volcano of several pods"])
def test_volcano_starts_a_job_again_after_a_fault_and_not_after_a_mistake(kind):
    spec = objects("train", *KINDS[kind])[-1]["spec"]
    policies = {one.get("exitCode", one.get("event")): one["action"] for one in spec["tasks"][0]["policies"]}
    again = {"PodFailed": "RestartJob", "PodEvicted": "RestartJob"} if kind == "volcano" else {}
    assert policies == {2: "TerminateJob", 3: "TerminateJob", "TaskCompleted": "CompleteJob"} | again
    assert spec.get("maxRetry") == (3 if again else None)
    assert spec["minAvailable"] == spec["tasks"][0]["replicas"]


def test_one_pod_starts_its_ranks_itself_so_that_their_status_is_its_own():
    main = container(objects("train", "-p", "4"))
    assert main["command"] == ["foundrank", "train", "/data/shop.yaml", "--run-dir", "/data/run", "--processes", "4"]
    assert container(objects("train", "--gpu", "8"))["command"][-2:] == ["--processes", "8"]
    assert not {"RANK", "WORLD_SIZE"} & {entry["name"] for entry in main["env"]}


@pytest.mark.parametrize("kind", ["job of several pods", "cronjob of several pods"])
def test_ranks_in_pods_of_a_job_find_the_first_one(kind):
    _, service, policy, job = objects("train", *KINDS[kind])
    spec = job["spec"]["jobTemplate"]["spec"] if job["kind"] == "CronJob" else job["spec"]
    pod = spec["template"]
    assert pod["metadata"]["labels"].items() >= service["spec"]["selector"].items()
    # Nobody else reaches them, on any port.
    pods = {"podSelector": {"matchLabels": service["spec"]["selector"]}}
    assert policy["spec"] == {**pods, "policyTypes": ["Ingress"], "ingress": [{"from": [pods]}]}
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert spec["completionMode"] == "Indexed"
    env = {entry["name"]: entry for entry in container(job)["env"]}
    assert env["WORLD_SIZE"]["value"] == str(spec["completions"]) == str(spec["parallelism"])
    assert env["RANK"]["valueFrom"]["fieldRef"]["fieldPath"].endswith("['batch.kubernetes.io/job-completion-index']")
    # A pod's host name is its job's with its number; of a variable's value, only names before it are put in.
    assert env["MASTER_ADDR"]["value"] == f"$(JOB_NAME)-0.{pod['spec']['subdomain']}"
    assert pod["spec"]["subdomain"] == service["metadata"]["name"]
    names = list(env)
    assert names.index("JOB_NAME") < names.index("MASTER_ADDR")
    assert "--processes" not in container(job)["command"]


def test_ranks_in_pods_of_volcano_know_their_number_and_the_first_one_s_name():
    [_, job] = objects("train", *KINDS["volcano of several pods"])
    [task] = job["spec"]["tasks"]
    env = {entry["name"]: entry["value"] for entry in container(job)["env"]}
    assert env["MASTER_ADDR"] == f"{job['metadata']['name']}-{task['name']}-0.{job['metadata']['name']}"
    words = container(job)["command"]
    at = words.index("foundrank")
    done = subprocess.run(
        [*words[:at], "printenv", "RANK"], env={"VC_TASK_INDEX": "2", "PATH": "/usr/bin:/bin"}, capture_output=True
    )
    assert done.stdout == b"2\n"
    done = subprocess.run([*words[:at], "sh", "-c", "exit 75"], env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 75


def test_a_pytorchjob_leaves_ranks_to_its_operator():
    replicas = objects("train", *KINDS["pytorchjob of several pods"])[-1]["spec"]["pytorchReplicaSpecs"]
    assert {name: one["replicas"] for name, one in replicas.items()} == {"Master": 1, "Worker": 2}
    [main] = replicas["Worker"]["template"]["spec"]["containers"]
    assert main["name"] == "pytorch"  # by which the operator knows it
    assert not {"RANK", "WORLD_SIZE", "MASTER_ADDR"} & {entry["name"] for entry in main["env"]}


def test_kubernetes_puts_no_variables_into_arguments():
    word = "name=$(HOME)$$x"
    written = container(objects("train", "--set", word))["command"]
    assert [one.replace("$$", "$") for one in written if one.startswith("name=")] == [word]
    assert "name=$$(HOME)$$$$x" in written


def test_the_words_are_those_of_the_command_in_the_order_given():
    command = container(objects("score", "--keep", "day,user_id", "--bad-data", "skip"))["command"]
    assert command[2:-2] == [
        *["--keep", "day,user_id", "--bad-data", "skip"],
        *["/data/run", "s3://shop/in", "/data/scores", "--domain", "shop"],
    ]


def test_no_option_means_one_thing_here_and_another_to_the_command():
    commands = get_command(app).commands  # type: ignore[attr-defined]
    ours = {name for one in commands["manifest"].params for name in one.opts if name.startswith("-")}
    for command in COMMANDS:
        theirs = {name for one in commands[command].params for name in one.opts if name.startswith("-")}
        assert ours & theirs == {"--processes", "-p"}


@pytest.mark.parametrize(
    ("options", "where", "what"),
    [
        (["--name", "Nightly_Job"], "--name 'Nightly_Job'", "no name for a job"),
        (["--name", "9lives"], "--name", "no name"),
        (["--name", "n" * 46], "--name", "no name"),
        (["--namespace", "a b"], "--namespace 'a b'", "no name"),
        (["--secret", "AWS_SECRET_ACCESS_KEY=abc"], "--secret", "never by its value"),
        (["--cache", "/cache"], "--cache", "no name"),
        (["--memory", "4Gb"], "--memory '4Gb'", "Mi, Gi"),
        (["--memory", "4000"], "--memory", "Mi, Gi"),
        (["--image", "two words"], "--image 'two words'", "no image"),
        (["--kind", "cronjob"], "--schedule", "is needed"),
        (["--schedule", "@daily"], "--schedule", "no meaning for --kind job"),
        (["--kind", "cronjob", "--schedule", "99 * * * *"], "--schedule", "minute"),
        (["--pods", "2", "-p", "2"], "-p 2", "a job of one pod"),
        (["--pods", "2", "--gpu", "8"], "--gpu 8", "a job of one pod"),
        (["--kind", "pytorchjob", "-p", "2"], "-p 2", "a job of one pod"),
        (["--gpu", "2", "-p", "4"], "-p 4", "2 GPU(s)"),
        (["--volume", "data"], "--volume 'data'", "CLAIM=/FOLDER"),
        (["--volume", "a=relative"], "--volume", "CLAIM=/FOLDER"),
        (["--volume", "other=/data"], "--volume 'shop=/data'", "is taken"),
        (["--volume", "other=/tmp/x"], "--volume", "is taken"),
        (["--volume", "Shop=/other"], "--volume 'Shop'", "no name"),
    ],
)
def test_what_a_cluster_would_refuse_is_refused_here(options, where, what):
    arguments = COMMANDS["train"]
    if "--image" in options:
        arguments = arguments[2:]
    with pytest.raises(UserError) as told:
        CliRunner().invoke(app, ["manifest", "train", *options, *arguments], catch_exceptions=False)
    assert told.value.where.startswith(where)
    assert what in str(told.value)


@pytest.mark.parametrize(
    ("command", "arguments", "where"),
    [
        ("train", ["/data/shop.yaml"], "--run-dir"),
        ("train", ["/data/shop.yaml", "--run-dir", "runs/shop"], "--run-dir runs/shop"),
        ("train", ["/data/shop.yaml", "--run-dir", "/data/../home/run"], "--run-dir /data/../home/run"),
        ("train", ["shop.yaml", "--run-dir", "/data/run"], "the experiment shop.yaml"),
        ("train", ["/data/shop.yaml", "--run-dir", "/data/run", "--", "-p", "2"], "--processes"),
        ("score", ["/data/run", "in", "/data/out"], "the input in"),
        ("score", ["/data/run", "/data/in", "/elsewhere"], "the output /elsewhere"),
        ("score", ["s3://key:word@shop/run", "/data/in", "/data/out"], "the command line"),
        ("embed", ["/etc/shop.yaml"], "the experiment /etc/shop.yaml"),
        ("tokenize", ["/etc/shop.yaml"], "the experiment /etc/shop.yaml"),
        ("tokenize", ["/data/shop.yaml", "--export", "codes.parquet"], "--export codes.parquet"),
        ("align", ["/data/run", "/data/aligned", "--reward", "runs/ranker"], "--reward runs/ranker"),
    ],
)
def test_work_that_would_be_lost_with_the_pod_is_refused(command, arguments, where):
    with pytest.raises(UserError) as told:
        CliRunner().invoke(app, ["manifest", command, *VOLUME, *arguments], catch_exceptions=False)
    assert told.value.where == where


def test_what_need_not_be_written_need_not_be_named():
    done = CliRunner().invoke(app, ["manifest", "tokenize", *VOLUME, "/data/shop.yaml"], catch_exceptions=False)
    assert done.exit_code == 0
    [job] = [one for one in yaml.safe_load_all(done.stdout) if one["kind"] == "Job"]
    assert container(job)["command"][:3] == ["foundrank", "tokenize", "/data/shop.yaml"]


def test_an_option_that_the_command_does_not_have_is_refused():
    done = CliRunner().invoke(app, ["manifest", "train", *COMMANDS["train"], "--run-dirr", "x"])
    assert done.exit_code == 2
    assert "--run-dirr" in done.output
