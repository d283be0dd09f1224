"""Kubernetes objects for one command: a plain dict per object, which `kubectl apply` takes as YAML. Nothing here talks to a cluster.

`request` is what was asked for, checked; `pod` the template all kinds share; `kinds` wraps it in a Job, CronJob, PyTorchJob or
Volcano Job; `cron` reads schedules.
"""
