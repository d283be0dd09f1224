"""The report of a run: one HTML file that shows what was learnt, how well, and how it ran."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ...data.codes.quality import COLUMNS as CODE_COLUMNS
from ...data.config.sections.task import ROWS, Measures, Metric
from ...data.errors import UserError
from ...data.storage.local_writes import write_text
from ...data.storage.mirror import publish
from ..evaluate.measures import measured_by
from ..evaluate.slices import summary
from ..retrieval.protocol import items_in_words, told_in_words
from ..run.kept_checkpoints import best_of_members, complete, identity, members
from ..run.run_documents import Evaluation, RunInfo, Validation
from ..run.run_folder import EVALUATION, EXPERIMENT, METRICS, REPORT, RUN_INFO, VALIDATION, read_json, read_metrics
from . import page as html
from . import plots as plots
from .alignment import alignment
from .calibration import by_decile, with_deciles
from .figure import FEW
from .terminal_tables import LISTS

Row = Mapping[str, Any]
OF_TASKS = ("auc", "cold", "calibration", "gates", "numbers")
RANKED = {
    "hr@5": "HR@5",
    "hr@10": "HR@10",
    "hr@20": "HR@20",
    "ndcg@10": "NDCG@10",
    "mrr@10": "MRR@10",
    "popularity_hr@10": "HR@10 of popularity",
    "popularity_ndcg@10": "NDCG@10 of popularity",
}


def write_report(run: Path) -> Path:
    """Writes ``run/report.html`` from what the run's folder holds; parts it lacks are named as missing.

    The file stands alone: figures and styles are inside it, and it fetches nothing.

    Args:
        run: the run's folder, with any of experiment.yaml, run.json, metrics.jsonl, validation.json, evaluation.json.

    Returns:
        The path of the report.

    Raises:
        UserError: there is no such folder, or one of the JSON or YAML files cannot be read.
    """
    run = Path(run)
    if not run.is_dir():
        raise UserError(run, "no such run folder", "Give the folder that `foundrank train` wrote.")
    raw, experiment = _read_experiment(run / EXPERIMENT)
    facts = read_json(run / RUN_INFO, RunInfo, {})
    metrics, unreadable = read_metrics(run / METRICS)
    validation = read_json(run / VALIDATION, Validation, {})
    evaluation = read_json(run / EVALUATION, Evaluation, {})
    rows, found = evaluation.get("rows", []), evaluation.get("next_item", [])
    by, validated_by = measured_by(evaluation), measured_by(validation)
    name = str(experiment.get("name") or run.resolve().name)

    sections = {"next": ("The next item", _next_item(found, evaluation.get("protocol")))} if found else {}
    sections |= alignment(run) | {
        "auc": (f"{_titles(by or validated_by) or 'Metrics'} per domain", _bounds(rows, by)),
        "cold": ("Warm and cold", _warm_and_cold(rows, by)),
    }
    if deciles := with_deciles(rows):
        words = "Each point is a tenth of a domain's rows, in order of their prediction. Below the dashed line too much is promised."
        sections["calibration"] = ("Predictions and labels", [html.figure(by_decile(deciles), words)])
    sections |= {
        "gates": ("What each domain listens to", _gates(evaluation.get("gates") or {})),
        "training": ("Training", _training(metrics, unreadable)),
        "validation": (
            "Validation",
            _validation(validation.get("rows", []), validation.get("next_item", []), validated_by),
        ),
        "speed": ("Speed", _speed(metrics)),
        "numbers": ("Every number", _numbers(rows, by, _cold_domains(experiment))),
        "tables": ("Embedding tables", _tables(facts.get("tables") or {}, facts.get("plan"))),
        **({"codes": ("Codes", _codes(codes))} if (codes := facts.get("codes")) else {}),
        "experiment": (
            "Experiment",
            [html.fold(EXPERIMENT, raw) if raw else html.absent(f"No {EXPERIMENT}.")],
        ),
    }
    if found and not rows:  # a model without tasks has nothing to say there
        sections = {anchor: part for anchor, part in sections.items() if anchor not in OF_TASKS}
    report = run / REPORT
    page = html.page(
        "report.html",
        title=f"{name}: foundrank report",
        name=name,
        split=evaluation.get("split", "test"),
        cards=_cards(rows, by, found),
        of_another=_of_another(run, evaluation.get("checkpoint")),
        facts=_facts(facts, metrics, len(members(run))),
        sections=sections,
    )
    write_text(report, page)
    publish(report)
    return report


def _of_another(run: Path, measured: str | None) -> bool:
    """Whether the evaluation is not of the checkpoint that is the run's best now."""
    return measured is not None and bool(complete(run)) and identity(best_of_members(run)) != measured


def _cards(
    rows: Sequence[Row], by: Mapping[str, Measures], found: Sequence[Row]
) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """The numbers to see first: what each is, and others beside it."""
    cards = []
    for row in found:
        if row["slice"] == "all":
            items = [(RANKED[key], html.number(row[key])) for key in ("ndcg@10", "mrr@10", "popularity_hr@10")]
            cards.append((f"next item in {row['domain']} · HR@10", html.number(row["hr@10"]), items))
    for task, slices in summary(rows, by).items():
        if "all" not in slices:
            continue
        mean, measures = slices["all"], by[task]
        headline, oracle, popularity = measures.headline, mean[measures.oracle], mean[measures.popularity]
        lines = [("oracle", oracle), ("popularity", popularity)]
        lines += [("cold items", slices["cold_items"][headline.key])] if "cold_items" in slices else []
        items = [(name, _shown(value, headline)) for name, value in lines if value is not None]
        if oracle is not None and popularity is not None and measures.better(oracle, popularity):
            share = (mean[headline.key] - popularity) / (oracle - popularity)
            items.append(("share of the way from popularity to oracle", f"{100 * share:.0f} %"))
        over = "one domain" if mean["domains"] == 1 else f"mean of {mean['domains']} domains"
        cards.append((f"{task} · {headline.title}, {over}", _shown(mean[headline.key], headline), items))
    return cards


def _facts(facts: Mapping[str, Any], metrics: Sequence[Row], models: int) -> list[tuple[str, str]]:
    items = [("models, of which the first is shown", html.count(models))] if models > 1 else []
    if facts.get("rows") is not None:
        items.append(("rows trained on", html.count(facts["rows"])))
    if metrics:
        items.append(("steps", html.count(metrics[-1]["step"])))
    if facts.get("parameters") is not None:
        items.append(("parameters", html.count(facts["parameters"])))
    if facts.get("world_size") is not None:
        items.append(("ranks", html.count(facts["world_size"])))
    if facts.get("seconds") is not None:
        items.append(("training time", html.duration(facts["seconds"])))
    if facts.get("ended_by_patience"):
        items.append(("ended by", "patience"))
    return items


def _next_item(rows: Sequence[Row], protocol: Mapping[str, Any] | None) -> list[str]:
    groups: dict[str, list[list[str]]] = {}
    counts = {"rows": "rows"} | ({"items": "among"} if len({row["items"] for row in rows}) > 1 else {})
    for row in rows:
        cells = [row["slice"].replace("_", " "), *(html.count(row[k]) for k in counts)]
        groups.setdefault(row["domain"], []).append([*cells, *(html.number(row[k]) for k in RANKED)])
    header = ("domain", "slice", *counts.values(), *RANKED.values())
    words = f"Where each row's item ranks among {items_in_words(rows)} items"
    words += "." if protocol is None else f": {told_in_words(protocol)}."  # older evaluations do not say
    parts = [html.grouped_table("The next item", header, list(groups.items())), html.paragraph(words, "faint")]
    lists = [(row["domain"], [html.number(row[key]) for key in LISTS]) for row in rows if "coverage@10" in row]
    if not lists:
        return parts
    told = (
        "Lists of 10: how far apart their items are (1 - cosine, or the share of codes that differ), which share of the items is in anybody's, how unequally items are shown, "
        "-log2 of an item's share of the training, and how popular items are, of lists and of the past."
    )
    names = ("domain", *LISTS.values())
    return [
        *parts,
        html.table("Lists", names, [[domain, *cells] for domain, cells in lists]),
        html.paragraph(told, "faint"),
    ]


def _bounds(rows: Sequence[Row], by: Mapping[str, Measures]) -> list[str]:
    if not rows:
        return [html.absent("Not evaluated yet.")]
    words = [f"The number is the model's {_titles(by)}."]
    words += [by[row["task"]].of_popularity for row in rows if row.get(by[row["task"]].popularity) is not None]
    words += [by[row["task"]].of_oracle for row in rows if row.get(by[row["task"]].oracle) is not None]
    return [html.figure(plots.against_bounds(rows, by), " ".join(dict.fromkeys(words)))]


def _warm_and_cold(rows: Sequence[Row], by: Mapping[str, Measures]) -> list[str]:
    if not rows:
        return [html.absent("Not evaluated yet.")]
    if all(row["slice"] == "all" or row.get(by[row["task"]].headline.key) is None for row in rows):
        return [html.absent(f"No slice of the rows has an {_titles(by)}.")]
    support = " or ".join(dict.fromkeys(measures.support.title for measures in by.values()))
    words = (
        "Cold items and cold users were never seen in training: their id says nothing, so text and features have to. "
        f"Hollow: fewer than {FEW} {support}, a rough estimate."
    )
    by_count = "Grey: each domain. Items that training hardly saw lean on their text and features."
    return [html.figure(plots.warm_and_cold(rows, by), words), html.figure(plots.by_count(rows, by), by_count)]


def _numbers(rows: Sequence[Row], by: Mapping[str, Measures], cold: set[str]) -> list[str]:
    if not rows:
        return [html.absent("Not evaluated yet.")]
    parts = []
    for task in dict.fromkeys(row["task"] for row in rows):
        columns = _columns(by[task])
        groups: dict[str, list[list[str]]] = {}
        for row in rows:
            if row["task"] == task:
                cells = [_shown(row.get(column.key), column) for column in columns]
                groups.setdefault(row["domain"], []).append([row["slice"].replace("_", " "), *cells])
        tags = ["cold" if domain in cold else "" for domain in groups]
        parts.append(html.subtitle(task))
        label = f"Metrics of task {task}"
        parts.append(
            html.grouped_table(
                label, ("domain", "slice", *(column.title for column in columns)), list(groups.items()), tags
            )
        )
    words = [*dict.fromkeys(measures.explained for measures in by.values()), "A dash: not defined or not known."]
    if weighted := dict.fromkeys(row["domain"] for row in rows if row.get("weight") is not None):
        words.append(f"In {', '.join(weighted)} rows count by their weights, where a task has any.")
    return [*parts, html.paragraph(" ".join(words), "faint")]


def _columns(measures: Measures) -> list[Metric]:
    """Those of the table of every number."""
    headline = measures.headline
    compared = {measures.oracle: "oracle", measures.popularity: "popularity"}
    known = [headline.model_copy(update={"key": key, "title": title}) for key, title in compared.items()]
    return [*dict.fromkeys((ROWS, measures.support, headline)), *known, *measures.others]


def _shown(value: float | None, metric: Metric) -> str:
    return "–" if value is None else format(value, metric.format)


def _titles(by: Mapping[str, Measures]) -> str:
    """The headlines that there are, in words."""
    return " or ".join(dict.fromkeys(measures.headline.title for measures in by.values()))


def _gates(gates: Mapping[str, Mapping[str, Mapping[str, float]]]) -> list[str]:
    if not gates:
        return [html.absent("No gate weights: not evaluated yet, or the model has no gate.")]
    owners = list(dict.fromkeys(owner for per_owner in gates.values() for owner in per_owner))
    aspects = dict.fromkeys(a for per_owner in gates.values() for weights in per_owner.values() for a in weights)
    return [html.gates(gates, owners, list(aspects))]


def _training(metrics: Sequence[Row], unreadable: int) -> list[str]:
    if not metrics:
        return [html.absent("No training step logged yet.")]
    parts = [html.figure(plots.total_loss(metrics), "Logged values, and their moving mean.")]
    if any(row.get("losses") for row in metrics):
        words = "Each panel has its own scale; the first steps may lie above it."
        parts.append(html.figure(plots.domain_losses(metrics), words))
    if unreadable:
        words = f"Lines of {METRICS} that could not be read and are left out: {unreadable}."
        parts.append(html.paragraph(words, "faint"))
    return parts


def _validation(rows: Sequence[Row], found: Sequence[Row], by: Mapping[str, Measures]) -> list[str]:
    parts = []
    headlines = {task: measures.headline for task, measures in by.items()}
    if any(row.get(headlines[row["task"]].key) is not None and row.get("slice", "all") == "all" for row in rows):
        words = f"{_titles(by)} on the validation split. Dashed: the mean over domains."
        parts.append(html.figure(plots.validation_curves(rows, headlines), words))
    if found:
        headline = {"next item": Metric(key="ndcg@10", title="NDCG@10")}
        curves = plots.validation_curves([{**row, "task": "next item"} for row in found], headline)
        parts.append(html.figure(curves, "NDCG@10 of the next item on the validation split."))
    return parts or [html.absent("Not evaluated on a validation split.")]


def _speed(metrics: Sequence[Row]) -> list[str]:
    if not metrics:
        return [html.absent("No training step logged yet.")]
    words = "Time spent waiting for data is time the model stood still."
    return [html.figure(plots.speed(metrics), words)]


def _tables(tables: Mapping[str, Mapping[str, int]], plan: str | None) -> list[str]:
    if not tables:
        return [html.absent("Not recorded.")]
    lines = sorted(((name, t["rows"], t["dim"]) for name, t in tables.items()), key=lambda t: -t[1] * t[2])
    rows = [[name, html.count(n), html.count(dim), html.count(n * dim)] for name, n, dim in lines]
    if len(rows) > 1:
        rows.append(["all", html.count(sum(t[1] for t in lines)), "", html.count(sum(t[1] * t[2] for t in lines))])
    parts = [html.table("Embedding tables", ("table", "rows", "width", "weights"), rows)]
    return [*parts, html.fold("Sharding plan", plan)] if plan else parts


def _codes(rows: Sequence[Sequence[str]]) -> list[str]:
    words = "What tokenizing has made of the catalog. Items that are not told apart rank as one."
    return [html.table("Codes", ("content", *CODE_COLUMNS), rows), html.paragraph(words)]


def _cold_domains(experiment: Mapping[str, Any]) -> set[str]:
    domains = experiment.get("domains") or {}
    return {name for name, domain in domains.items() if domain.get("cold")}


def _read_experiment(path: Path) -> tuple[str, Mapping[str, Any]]:
    if not path.is_file():
        return "", {}
    try:
        raw = path.read_bytes().decode()
        parsed = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(path, f"not valid YAML: {' '.join(str(error).split())}", "Correct it, or remove it.") from error
    return raw, parsed if isinstance(parsed, dict) else {}
