"""What the cold-start study trains: data sets, arms and seeds."""

from dataclasses import dataclass

FRACTIONS = (0.01, 0.05, 0.2, 1.0)
RATES = (0.5, 1.0, 2.0)
"""Factors of both learning rates that each arm tries on validation, with its first seed."""
FROZEN = {"full": "[]", "L0 frozen": "[L0]", "L0+L1 frozen": "[L0, L1]", "L0 to L2 frozen": "[L0, L1, L2]"}
FULL, SINGLE, PRETRAINED, ID_ONLY = "full model", "single domain", "pretrained", "id only"


@dataclass(frozen=True)
class DataSet:
    """A data set of the study.

    Attributes:
        name: of the importer, or ``simulated``.
        source: its folder under the study's data folder; None for the simulated one.
        cold: the domain that is treated as new.
        rows: most training rows of a domain, unless the study is run in full.
        settings: overrides for all arms.
    """

    name: str
    source: str | None
    cold: str
    rows: int
    settings: tuple[str, ...] = ()


DATA_SETS = (
    DataSet("simulated", None, "events_feed", 25_000),
    DataSet("completejourney", "completejourney", "drug", 40_000),
    DataSet("movietweetings", "movietweetings", "new_films", 40_000),
    DataSet("amazon-search", "amazon_cellphones_search", "recommendation", 80_000),
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
    """

    name: str
    settings: tuple[str, ...] = ()
    seeds: int = 3
    fraction: float = 1.0
    begins_from: str | None = None
    vectors: str = "llm"


ABLATIONS: dict[str, tuple[Arm, ...]] = {
    "Text": (Arm("text: random", vectors="random"), Arm("text: none", vectors="none")),
    "Gates": tuple(
        Arm(f"gate: {gate}", (f"model.gate={gate}",)) for gate in ("mean", "mean_gate", "cls_gate", "domain_count_gate")
    ),
    "Heads": tuple(Arm(f"head: {head}", (f"model.head={head}",)) for head in ("ple", "star", "shared_bottom")),
    "Alignment": tuple(Arm(f"alignment: {kind}", (f"model.alignment={kind}",)) for kind in ("mmd", "none")),
    "Beyond the paper": (
        Arm("ids from texts", ("model.id_from_text=0.1",)),
        Arm("no id dropout", ("model.id_dropout=0",)),
    ),
}
"""What is compared with the full model on all domains, three seeds each."""


def arms(data: DataSet, domains: list[str], seeds: int) -> list[Arm]:
    """All arms of a data set; those that others begin from come first.

    Args:
        data: the data set.
        domains: all its domains.
        seeds: of the headline arms.
    """
    others = ", ".join(name for name in domains if name != data.cold)
    # A few hundred rows make few steps: many epochs, small batches, and the best epoch of validation counts.
    thin = (f"only=[{data.cold}]", "training.epochs=10", "training.batch_size=128", "model.alignment=none")
    out = [
        Arm(PRETRAINED, (f"only=[{others}]",), seeds),
        Arm(FULL, (), seeds),
        Arm(ID_ONLY, ("model.aspects=[id]", "model.interaction=false"), seeds),
    ]
    for fraction in FRACTIONS:
        out.append(Arm(f"{SINGLE}, {fraction:.0%}", thin, seeds, fraction))
        if fraction < 1:
            out.append(Arm(f"all domains, {fraction:.0%}", (), seeds, fraction))
        for name, levels in FROZEN.items():
            settings = (*thin, f"training.freeze={levels}")
            out.append(Arm(f"fine-tuned {name}, {fraction:.0%}", settings, seeds, fraction, PRETRAINED))
    return out + [arm for group in ABLATIONS.values() for arm in group]
