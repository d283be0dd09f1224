"""What came of the trials: the best experiment, and a page."""

from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator
from optuna.trial import FrozenTrial

from ...data.config.load import plain
from ...data.config.written import DECIDED
from ...data.storage.local_writes import write_text
from ..report import page as html
from ..report.config_page import config_page
from .figures import importance_bars, settings_against_values, values_by_trial
from .prepare import Tuning
from .space import own_value
from .trials import ERROR, TENTHS, Trials

BEST, PAGE = "best.yaml", "report.html"
_FEW = 5  # trials of which nothing can be said about what matters


def write_best(job: Tuning, trials: Trials) -> Path | None:
    """Writes the experiment of the best trial, whole, each value with where it comes from; None where no trial is done."""
    best = trials.best()
    if best is None:
        return None
    experiment, written = job.experiment_of(changes := trials.changes(best))
    settled = job.settled(changes)

    def source(key: str) -> str:
        if key in settled:
            return "for trials to be judged within an epoch"
        if key in changes or any(key.startswith(f"{each}.") for each in changes):
            return f"trial {best.number}"
        return "by data size" if written.source(key) == DECIDED else written.source(key)

    first = next((one for one in trials.done() if one.number == 0), None)
    of_first = (
        f", {first.value:.5f} for the experiment as it was" if first is not None and first.value is not None else ""
    )
    head = (
        f"# Trial {best.number} of {len(trials.done())}: {best.value:.5f} on validation{of_first} ({_judged(job)}).\n"
    )
    head += "# Written by `foundrank tune`; train it with `foundrank train`, then measure it on the test split.\n"
    path = job.out / BEST
    write_text(path, head + config_page(plain(experiment), source) + "\n")
    return path


def write_page(job: Tuning, trials: Trials) -> Path:
    """Writes the page of all trials that have ended."""
    done, best = trials.done(), trials.best()
    own = plain(job.experiment)
    whole = trials.whole()
    failed = [one for one in done if ERROR in one.user_attrs]
    first = next((one for one in whole if one.number == 0), None)
    facts = [
        ("judged by", _judged(job)),
        ("trials", f"{len(done)} of {trials.most}"),
        ("to their end", f"{len(whole)}"),
    ]
    facts += [("given up early", f"{len(done) - len(whole) - len(failed)}"), ("failed", f"{len(failed)}")]
    facts += [("as it was", f"{first.value:.4f}")] if first is not None else []
    facts += [("best", f"{best.value:.4f}, trial {best.number}")] if best is not None else []
    sections: dict[str, Any] = {}
    if whole:
        words = "Each point is a trial, in the order they began; the line is the best so far. Hollow: given up early, at the best that it had come to."
        sections["trials"] = ("Trials", html.figure(values_by_trial(done), words))
        sections["best"] = ("The best", _best(trials, best, own))
        sections["importance"] = ("What matters", _importance(trials, whole))
        words = "Each panel is a setting, each point a trial that went to its end; the ring is the best. Dashed: the experiment as it was."
        figure = settings_against_values(trials, whole, best, own)
        sections["settings"] = ("Settings", html.figure(figure, words))
    sections["every"] = ("Every trial", _table(trials, done, own))
    path = job.out / PAGE
    write_text(path, html.page("plan.html", title=f"{job.experiment.name}: tuning", facts=facts, sections=sections))
    return path


def importances(trials: Trials) -> dict[str, float]:
    """Setting -> its share of what makes trials good, by PED-ANOVA (Watanabe et al., 2023); nothing of few trials."""
    if len(trials.whole()) < _FEW:
        return {}
    return optuna.importance.get_param_importances(trials.study, evaluator=PedAnovaImportanceEvaluator())


def _judged(job: Tuning) -> str:
    return f"validation, {job.asked}" if job.asked else "validation"


def _best(trials: Trials, best: FrozenTrial | None, own: dict[str, Any]) -> Any:
    assert best is not None
    rows = [[key, _shown(own_value(own, key)), _shown(value)] for key, value in trials.changes(best).items()]
    if not rows:
        return html.paragraph("No trial was better than the experiment as it was.")
    return html.table("The best trial", ["setting", "as it was", f"trial {best.number}"], rows)


def _importance(trials: Trials, whole: list[FrozenTrial]) -> Any:
    if not (found := importances(trials)):
        return html.absent(f"Too few trials went to their end: {len(whole)}.")
    words = "Share of each setting in what tells the best trials from the others (PED-ANOVA). Trials given up early do not count."
    return html.figure(importance_bars(found), words)


def _table(trials: Trials, done: list[FrozenTrial], own: dict[str, Any]) -> Any:
    if not done:
        return html.absent("None has ended yet.")
    rows, keys = [], list(trials.space)
    for one in sorted(done, key=lambda one: (one.value is None, -(one.value or 0), one.number)):
        changes = {key: own_value(own, key) for key in keys} | trials.changes(one)
        epochs = f"{max(one.intermediate_values, default=0) / TENTHS:.1f}"
        seconds = html.duration(one.duration.total_seconds()) if one.duration else "–"
        outcome = (
            html.number(one.value, 5) if one.value is not None else "failed" if ERROR in one.user_attrs else "given up"
        )
        rows.append([str(one.number), outcome, epochs, seconds, *(_shown(changes[key]) for key in keys)])
    names = [key.removeprefix("training.").removeprefix("model.") for key in keys]
    return html.table("Trials, the best first", ["trial", "value", "epochs", "time", *names], rows)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
