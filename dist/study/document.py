"""The study's report: tables with intervals, figures, and whether each direction held, of what has been measured."""

import math
from collections.abc import Sequence
from pathlib import Path

from .arms import FRACTIONS, FULL, ID_ONLY, LINES, SINGLE, DataSet
from .directions import interval, table
from .figures import count_figure, fraction_figure
from .markdown_sections import check_section, write_section
from .measured import Measured, MeasuredLabels, MeasuredNextItems, read_measured

_SECTION = "study"


def kept_beside(doc: Path) -> Path:
    """The folder beside a report with its figures, and with what has been measured of each data set."""
    return doc.parent / "study"


def check_study(doc: Path, data_sets: Sequence[DataSet]) -> None:
    """Makes sure that the report can be written, before anything is trained for it; arguments as of `write_study`.

    Raises:
        UserError: the report, or a file of what has been measured, is damaged.
    """
    read_measured(kept_beside(doc), data_sets)
    if doc.exists():
        check_section(doc, _SECTION)


def write_study(doc: Path, data_sets: Sequence[DataSet]) -> None:
    """Writes the report between the markers of a Markdown file, and the figures beside it, from the files of what has been measured.

    Args:
        doc: the file; what stands outside the markers stays.
        data_sets: in the order of the report; those that nothing is measured of are left out.

    Raises:
        UserError: the report, or a file of what has been measured, is damaged or not the study's.
    """
    every = read_measured(kept_beside(doc), data_sets)
    texts = ["```bash\nfoundrank study OUT --data DATA\n```", _HOW]
    texts += ["## The paper's directions", table({one.data: one.paper for one in every})]
    texts += ["## What each part brings", table({one.data: one.parts for one in every})]
    for one in every:
        texts += [f"## {one.data}", *_conditions(one)]
        if isinstance(one, MeasuredLabels):
            texts += _labels(one, kept_beside(doc))
        else:
            texts += _next_items(one)
    write_section(doc, _SECTION, "\n\n".join(texts), "The cold-start study")


_HOW = """AUC is the mean over domains and tasks of test rows. Differences have a 95 % interval over both the choice of test users, whose
rows go together, and of seeds (a paired bootstrap of 500 draws). Arms that change what is learned from tried learning rates times
0.5, 1 and 2 on validation with one seed and kept the best; those that change a part of the model have the full model's (column
*rate*). The best epoch of validation is what is tested. Each data set's section says with how many seeds and which version it was
measured; of those seeds, parts of the model have three at most, texts five. *Cold items* were never seen in the training events of the
full model; where the next item is sought, a tenth of the items is held out of training, so that there are some. Bars in figures are
standard errors over seeds.

*holds*: the interval lies above 0; *reversed*: below; *undecided*: 0 is in it. The number is the difference in AUC; where the next
item is sought in NDCG@10, and on cold items in rank percentile: the share of all other items that rank behind the next one."""


def _conditions(found: Measured) -> list[str]:
    """How a data set was measured, and which of its arms are not, or not with all their seeds."""
    on = found.on
    rows = f"at most {on.rows:,} rows of each domain's training, validation and test" if on.rows else "all rows"
    days = f" {' to '.join(on.days)}" if on.days else ""
    texts = [f"Measured{days} with foundrank {' and '.join(on.versions)}, {on.seeds} seeds, {rows}."]
    missing = [name for name, (done, _) in found.unfinished.items() if not done]
    begun = [f"{name} ({done} of {wanted})" for name, (done, wanted) in found.unfinished.items() if done]
    if missing:
        texts.append(f"Not measured yet: {'; '.join(missing)}.")
    if begun:
        texts.append(f"Not with all seeds yet: {'; '.join(begun)}.")
    return texts


def _labels(found: MeasuredLabels, figures: Path) -> list[str]:
    fraction_figure(found, figures / f"{found.data}-new-domain.png")
    texts = [_new_domain(found), f"![AUC of the new domain against its data](study/{found.data}-new-domain.png)"]
    texts.append(_parts(found))
    if ID_ONLY in found.arms:
        count_figure(found, figures / f"{found.data}-item-counts.png")
        texts.append(f"![AUC against how often the item was seen](study/{found.data}-item-counts.png)")
    return texts


def _new_domain(found: MeasuredLabels) -> str:
    """The new domain by share of its data; differences to a model of that domain alone."""
    lines = ["| share of the new domain's rows | " + " | ".join(f"{f:.0%}" for f in FRACTIONS) + " |"]
    lines.append("| --- |" + " ---: |" * len(FRACTIONS))
    for name in LINES:
        cells = []
        for fraction in FRACTIONS:
            of_arm = found.of_share(name, fraction)
            if of_arm is None or found.of_share(SINGLE, fraction) is None:
                cells.append("–")
            elif of_arm.over_single is None:
                cells.append(f"{of_arm.new_domain[0]:.4f}")
            else:
                cells.append(f"{of_arm.new_domain[0]:.4f} ({interval(of_arm.over_single)})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    oracle = found.oracle.new_domain
    known = "" if math.isnan(oracle) else f" The true probabilities reach {oracle:.4f}."
    return (
        f"### A new domain: {found.new_domain}\n\nTest AUC there, and the difference to *{SINGLE}* on the same rows.{known}\n\n"
        + "\n".join(lines)
    )


def _parts(found: MeasuredLabels) -> str:
    """Arms on all domains, against the full model; on all rows, and on cold and warm items."""
    full = found.arms[FULL]
    lines = ["| | rate | AUC | full model's lead | cold items | full model's lead | warm items: lead |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    lines.append(f"| {FULL} | {full.rate:g} | {full.all[0]:.4f} | | {full.cold[0]:.4f} | | |")
    for name, of_arm in found.arms.items():
        if (lead := of_arm.lead) is not None:
            cells = [f"{of_arm.all[0]:.4f}", interval(lead.all), f"{of_arm.cold[0]:.4f}", interval(lead.cold)]
            cells.append(interval(lead.warm))
            lines.append(f"| {name} | {of_arm.rate:g} | {' | '.join(cells)} |")
    text = "### Parts of the model\n\n" + "\n".join(lines)
    oracle = found.oracle.cold
    if not math.isnan(oracle) and ID_ONLY in found.arms:
        ours, ids = oracle - full.cold[0], oracle - found.arms[ID_ONLY].cold[0]
        text += (
            f"\n\nOn cold items the true probabilities reach {oracle:.4f}: the full model is {ours:.4f} below, the model of ids "
            f"{ids:.4f}; the gap is {ours / ids:.2f} of the other."
        )
    return text


def _next_items(found: MeasuredNextItems) -> list[str]:
    lines = [
        "| | rate | NDCG@10 | full model's lead | cold items: percentile | full model's lead | cold items: NDCG@10 |"
    ]
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, of_arm in found.arms.items():
        leads = ["", ""] if of_arm.lead is None else [interval(of_arm.lead.all), interval(of_arm.lead.cold)]
        cells = [f"{of_arm.ndcg:.4f}", leads[0], f"{of_arm.cold_percentile:.4f}", leads[1], f"{of_arm.cold_ndcg:.4f}"]
        lines.append(f"| {name} | {of_arm.rate:g} | {' | '.join(cells)} |".replace("|  |", "| |"))
    told = f"{found.rows:,} test rows, {found.cold_rows:,} of items that training has not seen. Candidates are all items of the catalog."
    return [told, "\n".join(lines)]
