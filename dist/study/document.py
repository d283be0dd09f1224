"""The study's report: tables with intervals, figures, and whether each direction held."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ...data.config.load import load_experiment
from ...model.kinds import KINDS
from ..evaluate.slices import SEEN
from .arms import FRACTIONS, FROZEN, FULL, ID_ONLY, SINGLE, DataSet, arms, parts
from .directions import PAPER, Verdicts, interval, table
from .markdown_sections import write_section
from .next_item_document import next_item_section
from .results import Result, Surface, difference, read_results

_LINES = (SINGLE, "all domains", *(f"fine-tuned {name}" for name in FROZEN))
_TOLD = ("all domains", "fine-tuned full", "fine-tuned L0+L1 frozen")


def write_study(out: Path, data_sets: Sequence[DataSet], seeds: int, full: bool, doc: Path) -> None:
    """Writes what has been measured so far between the markers of a Markdown file, and the figures beside it.

    Args:
        out: the study's folder.
        data_sets: those with runs.
        seeds: of the headline arms.
        full: whether it was run on all rows.
        doc: the file; what stands outside the markers stays.
    """
    figures = doc.parent / "study"
    figures.mkdir(parents=True, exist_ok=True)
    paper: Verdicts = {}
    verdicts: Verdicts = {}
    sections = []
    for data in data_sets:
        domains = list(load_experiment(out / "data" / data.name / "study.yaml", kinds=KINDS).domains)
        every = arms(data, domains, seeds)
        if data.cold is None:
            sections.append(next_item_section(data, every, out, paper, verdicts))
        elif FULL in (results := read_results(data, every, out)):
            sections.append(_section(data, results, verdicts, figures))
            _ask_paper(data, results, paper)
    names = [data.name for data in data_sets]
    command = f"foundrank study OUT --data DATA --seeds {seeds}" + (" --full" if full else "")
    heads = [f"    {command}", _HOW, "## The paper's directions", table(paper, names)]
    text = "\n\n".join([*heads, "## What each part brings", table(verdicts, names), *filter(None, sections)])
    write_section(doc, "study", text, "The cold-start study")


_HOW = """AUC is the mean over domains and tasks of test rows. Differences have a 95 % interval over both the choice of test users, whose
rows go together, and of seeds (a paired bootstrap of 500 draws). Arms that change what is learned from tried learning rates times
0.5, 1 and 2 on validation with one seed and kept the best; those that change a part of the model have the full model's (column
*rate*). The best epoch of validation is what is tested. *Cold items* were never seen in the training events of the full model; where the
next item is sought, a tenth of the items is held out of training, so that there are some. Bars in figures are standard errors over seeds.

*holds*: the interval lies above 0; *reversed*: below; *undecided*: 0 is in it. The number is the difference in AUC; where the next
item is sought in NDCG@10, and on cold items in rank percentile: the share of all other items that rank behind the next one."""


def _section(data: DataSet, results: dict[str, Result], verdicts: Verdicts, figures: Path) -> str:
    texts = [f"## {data.name}", _new_domain(data, results, verdicts)]
    if _fraction_figure(data, results, figures / f"{data.name}-new-domain.png"):
        texts.append(f"![AUC of the new domain against its data](study/{data.name}-new-domain.png)")
    texts.append(_ablations(data, results, verdicts))
    if ID_ONLY in results:
        _count_figure(results, figures / f"{data.name}-item-counts.png")
        texts.append(f"![AUC against how often the item was seen](study/{data.name}-item-counts.png)")
    return "\n\n".join(texts)


def _new_domain(data: DataSet, results: dict[str, Result], verdicts: Verdicts) -> str:
    """The new domain by share of its data; differences to a model of that domain alone."""
    lines = ["| share of the new domain's rows | " + " | ".join(f"{f:.0%}" for f in FRACTIONS) + " |"]
    lines.append("| --- |" + " ---: |" * len(FRACTIONS))
    for name in _LINES:
        cells = []
        for fraction in FRACTIONS:
            result, single = _at(results, name, fraction), results.get(f"{SINGLE}, {fraction:.0%}")
            if result is None or single is None:
                cells.append("–")
                continue
            mean = f"{result.mean_auc(domain=data.cold)[0]:.4f}"
            if name != SINGLE:
                gap = difference(result, single, domain=data.cold)
                mean += f" ({interval(gap)})"
                if name in _TOLD:
                    _note(verdicts, f"{name} > {SINGLE}, {fraction:.0%} of its rows", data, gap)
            cells.append(mean)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for fraction in FRACTIONS:
        frozen, free = (_at(results, f"fine-tuned {name}", fraction) for name in ("L0+L1 frozen", "full"))
        if frozen is not None and free is not None:
            gap = difference(frozen, free, domain=data.cold)
            _note(verdicts, f"fine-tuned L0+L1 frozen ≥ fine-tuned full, {fraction:.0%} of its rows", data, gap)
    oracle = results[FULL].oracle_auc(domain=data.cold)
    known = "" if math.isnan(oracle) else f" The true probabilities reach {oracle:.4f}."
    return (
        f"### A new domain: {data.cold}\n\nTest AUC there, and the difference to *{SINGLE}* on the same rows.{known}\n\n"
        + "\n".join(lines)
    )


def _ablations(data: DataSet, results: dict[str, Result], verdicts: Verdicts) -> str:
    """Arms on all domains, against the full model; on all rows, and on cold and warm items."""
    full = results[FULL]
    lines = ["| | rate | AUC | full model's lead | cold items | full model's lead | warm items: lead |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    lines.append(f"| {FULL} | {full.rate:g} | {full.mean_auc()[0]:.4f} | | {full.mean_auc(cold_items)[0]:.4f} | | |")
    for name in (ID_ONLY, *(arm.name for arm in parts(data))):
        if name not in results:
            continue
        of_arm = results[name]
        gaps = [difference(full, of_arm, chosen) for chosen in (None, cold_items, warm_items)]
        cells = [f"{of_arm.mean_auc()[0]:.4f}", interval(gaps[0]), f"{of_arm.mean_auc(cold_items)[0]:.4f}"]
        lines.append(f"| {name} | {of_arm.rate:g} | {' | '.join([*cells, *map(interval, gaps[1:])])} |")
        _note(verdicts, f"full model > {name}, all rows", data, gaps[0])
        _note(verdicts, f"full model > {name}, cold items", data, gaps[1])
    text = "### Parts of the model\n\n" + "\n".join(lines)
    oracle = full.oracle_auc(cold_items)
    if not math.isnan(oracle) and ID_ONLY in results:
        ours, ids = oracle - full.mean_auc(cold_items)[0], oracle - results[ID_ONLY].mean_auc(cold_items)[0]
        text += (
            f"\n\nOn cold items the true probabilities reach {oracle:.4f}: the full model is {ours:.4f} below, the model of ids "
            f"{ids:.4f}; the gap is {ours / ids:.2f} of the other."
        )
    return text


def _ask_paper(data: DataSet, results: dict[str, Result], paper: Verdicts) -> None:
    """What a data set says of the paper's directions."""
    for one in PAPER:
        if one.first not in results or one.second not in results:
            continue
        chosen = cold_items if one.rows == "cold items" else None
        domain = data.cold if one.rows == "new domain" else None
        gap = difference(results[one.first], results[one.second], chosen, domain)
        paper.setdefault(one.said, {})[data.name] = gap


def cold_items(surface: Surface) -> np.ndarray:
    """``[N]`` bool, rows of items never seen in training."""
    return surface.item_counts == 0


def warm_items(surface: Surface) -> np.ndarray:
    """``[N]`` bool, all others."""
    return surface.item_counts > 0


def _at(results: dict[str, Result], name: str, fraction: float) -> Result | None:
    """An arm on a share of the new domain; with all of it the model of all domains is the full one."""
    if name == "all domains" and fraction == 1:
        return results.get(FULL)
    return results.get(f"{name}, {fraction:.0%}")


def _note(verdicts: Verdicts, direction: str, data: DataSet, gap: tuple[float, float, float]) -> None:
    verdicts.setdefault(direction, {})[data.name] = gap


def _fraction_figure(data: DataSet, results: dict[str, Result], path: Path) -> bool:
    figure = Figure((7, 4), layout="constrained")
    axes = figure.subplots()
    drawn = False
    for number, name in enumerate(_LINES):
        points = [(f, r.mean_auc(domain=data.cold)) for f in FRACTIONS if (r := _at(results, name, f)) is not None]
        if points:
            x, found = zip(*points, strict=True)
            means, errors = zip(*found, strict=True)
            shift = 1 + 0.03 * (number - 2)  # so that bars do not hide each other
            axes.errorbar(
                [f * shift * 100 for f in x],
                means,
                np.nan_to_num(errors),
                label=name,
                marker="osD^vP"[number],
                capsize=2,
            )
            drawn = True
    axes.set(
        xscale="log",
        xlabel=f"share of {data.cold}'s training rows, %",
        ylabel=f"test AUC in {data.cold}",
        title=data.name,
    )
    axes.set_xticks([f * 100 for f in FRACTIONS], [f"{f:.0%}" for f in FRACTIONS])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    return drawn


def _count_figure(results: dict[str, Result], path: Path) -> None:
    bounds = {
        "never": (0.0, 1.0),
        **{name.removeprefix("items_seen_").replace("_", " "): of for name, of in SEEN.items()},
    }
    figure = Figure((7, 3.6), layout="constrained")
    axes = figure.subplots()
    for name, marker in ((FULL, "o"), ("gate: domain_count_gate", "D"), ("ids from texts", "^"), (ID_ONLY, "s")):
        if name in results:
            found = [results[name].mean_auc(_between(*of)) for of in bounds.values()]
            axes.errorbar(
                range(len(bounds)),
                [m for m, _ in found],
                np.nan_to_num([e for _, e in found]),
                label=name,
                marker=marker,
                capsize=2,
            )
    oracle = [results[FULL].oracle_auc(_between(*of)) for of in bounds.values()]
    if not all(map(math.isnan, oracle)):
        axes.plot(oracle, color="black", linestyle=":", label="true probabilities")
    axes.set(xlabel="times the item was seen in training", ylabel="test AUC, mean of domains and tasks")
    axes.set_xticks(range(len(bounds)), list(bounds))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)


def _between(least: float, below: float):
    return lambda surface: (surface.item_counts >= least) & (surface.item_counts < below)
