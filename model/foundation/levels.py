"""The levels of the model's parameters, from what all domains share to what each has for itself.

After the description of the S&R Multi-Domain Foundation (CIKM 2023), in this project's reading:

    L0  embedding tables and text projections
    L1  encoders and gates: id projections, sparse aspects, encoders of the history, ids from texts, the vector of no query
    L2  domain embeddings, domain-adaptive layer, experts and the gates over them
    L3  towers
"""

from ...data.config.sections.training import Level

_PREFIXES: tuple[tuple[str, Level], ...] = (
    ("embeddings.", "L0"),
    ("dense.represent.encoder.text_projections.", "L0"),
    ("dense.represent.", "L1"),
    ("dense.history.domain_embedding", "L2"),
    ("dense.history.", "L1"),
    ("dense.head.towers.", "L3"),
    ("dense.", "L2"),
)


def level_of(parameter: str) -> Level:
    """The level of a parameter of `Foundation`, by its name."""
    return next(level for prefix, level in _PREFIXES if parameter.startswith(prefix))
