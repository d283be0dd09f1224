"""The kinds of objects that run a command: whose pods start again, after which exit status, and how several pods find each other."""

from collections.abc import Callable
from typing import Any

from ..ranks.statuses import MISTAKE, THRESHOLD, TRY_AGAIN
from .pod import labels, ranks_of_pods, template
from .request import Kind, Request

KEPT_SECONDS = 7 * 24 * 3600
"""How long a finished job and its logs stay: over a weekend."""

FINAL = sorted((MISTAKE, THRESHOLD))
"""Statuses after which the same command would end the same way."""

Manifest = dict[str, Any]


def manifests(request: Request) -> list[Manifest]:
    """All objects of a request, in the order in which a cluster needs them."""
    objects = []
    if request.service_account is None:
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(request)}
        objects.append({**account, "automountServiceAccountToken": False})
    if request.pods > 1 and request.kind in ("job", "cronjob"):
        objects += [_service(request), _network_policy(request)]
    return [*objects, _KINDS[request.kind](request)]


def _metadata(request: Request) -> Manifest:
    namespace = {"namespace": request.namespace} if request.namespace else {}
    return {"name": request.name, **namespace, "labels": labels(request)}


def _service(request: Request) -> Manifest:
    """Host names for the pods of a job, before they are ready: ranks wait for each other, and are ready together."""
    spec = {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": _selector(request)}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _metadata(request), "spec": spec}


def _network_policy(request: Request) -> Manifest:
    """Nobody but the job's own pods reaches its ranks, which believe whatever they are sent."""
    pods = {"matchLabels": _selector(request)}
    spec = {"podSelector": pods, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": pods}]}]}
    kind = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    return {**kind, "metadata": _metadata(request), "spec": spec}


def _selector(request: Request) -> dict[str, str]:
    return {key: labels(request)[key] for key in ("app.kubernetes.io/name", "app.kubernetes.io/instance")}


def _job(request: Request) -> Manifest:
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _metadata(request), "spec": _job_spec(request)}


def _job_spec(request: Request) -> Manifest:
    """One pod, or an indexed job with a rank in each, which knows its number; no launcher stands before a rank's exit status."""
    if request.pods == 1:
        pod = template(request, [])
    else:
        # The job's name, for a CronJob's jobs have names that nobody knows before.
        told = [
            _from_pod("JOB_NAME", "metadata.labels['job-name']"),
            _from_pod("RANK", "metadata.annotations['batch.kubernetes.io/job-completion-index']"),
        ]
        pod = template(request, [*told, *ranks_of_pods(request, f"$(JOB_NAME)-0.{request.name}")])
        pod["spec"]["subdomain"] = request.name
    pod["spec"]["restartPolicy"] = "Never"  # as a policy on exit statuses asks for: the Job makes a new pod
    rules = [
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": FINAL}},
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [TRY_AGAIN]}},
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},  # evicted, preempted
    ]
    several = {"completionMode": "Indexed", "completions": request.pods, "parallelism": request.pods}
    return {
        **(several if request.pods > 1 else {}),
        "backoffLimit": request.retries * request.pods,  # where one rank fails, all do, and each pod counts
        "podFailurePolicy": {"rules": rules},
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "template": pod,
    }


def _cron_job(request: Request) -> Manifest:
    spec = {
        "schedule": request.schedule,
        "concurrencyPolicy": "Forbid",  # a night that takes too long is not joined by the next one
        "startingDeadlineSeconds": 3600,
        "successfulJobsHistoryLimit": 7,
        "failedJobsHistoryLimit": 7,
        "jobTemplate": {"metadata": {"labels": labels(request)}, "spec": _job_spec(request)},
    }
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": _metadata(request), "spec": spec}


def _pytorch_job(request: Request) -> Manifest:
    """The operator sets RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT. Its policies tell no exit status from another as needed:
    ``ExitCode`` takes all below 128 for final, 75 too."""
    replica = {"restartPolicy": "OnFailure", "template": template(request, [], container="pytorch")}
    replicas = {"Master": {"replicas": 1, **replica}}
    if request.pods > 1:
        replicas["Worker"] = {"replicas": request.pods - 1, **replica}
    policy = {
        "backoffLimit": request.retries,
        "cleanPodPolicy": "Running",
        "ttlSecondsAfterFinished": KEPT_SECONDS,
    }
    spec = {"runPolicy": policy, "pytorchReplicaSpecs": replicas}
    return {"apiVersion": "kubeflow.org/v1", "kind": "PyTorchJob", "metadata": _metadata(request), "spec": spec}


def _volcano_job(request: Request) -> Manifest:
    """All pods or none. Not Volcano's own plugin for PyTorch: it adds a container that runs as root."""
    if request.pods == 1:
        pod = template(request, [])
    else:
        master = f"{request.name}-{request.command}-0.{request.name}"
        pod = template(request, ranks_of_pods(request, master), ["sh", "-c", 'RANK="$VC_TASK_INDEX" exec "$@"', "sh"])
    pod["spec"]["restartPolicy"] = "Never"
    policies: list[Manifest] = [{"action": "TerminateJob", "exitCode": status} for status in FINAL]
    if request.retries:  # Volcano takes 0 for 3
        policies += [{"action": "RestartJob", "event": event} for event in ("PodEvicted", "PodFailed")]
    policies.append({"action": "CompleteJob", "event": "TaskCompleted"})
    task = {"name": request.command, "replicas": request.pods, "policies": policies, "template": pod}
    spec = {
        "schedulerName": "volcano",
        "queue": "default",
        "minAvailable": request.pods,
        **({"maxRetry": request.retries} if request.retries else {}),
        "ttlSecondsAfterFinished": KEPT_SECONDS,
        "plugins": {"env": [], "svc": ["--publish-not-ready-addresses"]},
        "tasks": [task],
    }
    return {"apiVersion": "batch.volcano.sh/v1alpha1", "kind": "Job", "metadata": _metadata(request), "spec": spec}


def _from_pod(name: str, path: str) -> Manifest:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


_KINDS: dict[Kind, Callable[[Request], Manifest]] = {
    "job": _job,
    "cronjob": _cron_job,
    "pytorchjob": _pytorch_job,
    "volcano": _volcano_job,
}
