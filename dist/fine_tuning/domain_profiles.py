"""What the items of each domain are about, to find the domains that are most like a new one."""

from collections.abc import Mapping

import numpy as np

from ...data.arrow.ids import id_keys
from ...data.batch.row_encoder import RowEncoder
from ...data.events.bad_rows import read_good_rows
from ...data.events.event_files import EventFiles
from ...data.schema.column_needs import needed_columns

_ROWS = 8192  # of a domain that are looked at
_SHARPNESS = 10.0  # of the softmax over cosines: 0.1 more is e times the weight


def domain_profiles(encoder: RowEncoder, train: Mapping[str, EventFiles]) -> dict[str, list[float]]:
    """Domain -> the mean vector of the items in its first training rows, over those that have one: of the
    first embedded content, in the order that contents have whatever the file's is.

    A domain without such a row has no profile.

    Args:
        encoder: of the experiment.
        train: domain -> its training files.
    """
    of_items, embedded = encoder.layout.contents_of.get("item", {}), encoder.layout.encoder_of
    content = next((encoder.contents[key] for key in of_items.values() if key in embedded), None)
    if content is None:
        return {}
    experiment, item = encoder.experiment, encoder.experiment.entities.item.id
    vectors, found = content.vectors, {}
    for name, files in train.items():
        total, rows, worded = np.zeros(vectors.shape[1]), 0, 0
        needs = needed_columns(experiment, name)
        for path, group in files.row_groups:
            if rows >= _ROWS:
                break
            table = read_good_rows(path, group, needs, [item], experiment.bad_data)
            at = content.rows(*id_keys(table[item]))[: _ROWS - rows]
            total += vectors[at[at >= 0]].double().sum(0).numpy()
            rows, worded = rows + len(at), worded + int((at >= 0).sum())
        if worded:
            found[name] = (total / worded).tolist()
    return found


def mixture(
    name: str, search: bool, profiles: Mapping[str, list[float]], known: Mapping[str, bool]
) -> dict[str, float]:
    """How much of each known domain a new one is: a softmax over the cosines of their profiles, among those of its kind.

    Args:
        name: of the new domain.
        search: whether it is a search domain.
        profiles: domain -> profile, as far as there are any.
        known: known domain -> whether it is a search domain.

    Returns:
        Known domain -> weight; they sum to 1. Without profiles of one content all of its kind weigh the same, and without any of
        its kind all of them.
    """
    alike = [domain for domain, searches in known.items() if searches == search] or list(known)
    sizes = {len(profiles.get(domain, ())) for domain in (name, *alike)}
    if 0 in sizes or len(sizes) > 1:
        return dict.fromkeys(alike, 1 / len(alike))
    centre = np.mean([p for domain in known if len(p := profiles.get(domain, ())) in sizes], axis=0)
    cosines = np.array([_cosine(profiles[name] - centre, profiles[domain] - centre) for domain in alike])
    weights = np.exp(_SHARPNESS * (cosines - cosines.max()))
    return dict(zip(alike, (weights / weights.sum()).tolist(), strict=True))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))
