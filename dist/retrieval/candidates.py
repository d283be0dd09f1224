"""Which items take part where not all do: those of a domain, or some drawn at random."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.arrow.ids import mix
from ...data.batch.row_encoder import RowEncoder
from ...data.events.event_files import EventFiles
from ...data.vocabulary.vocabulary import KeyIndex
from ..counting.domain_items import named_items
from ..ranks.runtime import Runtime
from .protocol import Protocol

_SEED = np.uint64(0x6E6578745F697465)
_AT_FIRST = 32  # drawn beyond twice as many as are wanted, since some are past ones, or drawn twice


def items_of_domain(
    domain: str, files: EventFiles | None, encoder: RowEncoder, keys: NDArray[np.uint64], runtime: Runtime
) -> Tensor:
    """``[C]`` bool, which items are in a domain's training events. A collective: where the run has not kept them, each rank reads
    some of the row groups.

    Args:
        domain: its name.
        files: its training events; None where the run has kept the items of these.
        encoder: of the experiment.
        keys: ``[C]`` of all items.
        runtime: the process group.
    """
    items = encoder.statistics.items.get(domain)
    if items is None:
        assert files is not None
        items = named_items(encoder.experiment, domain, files, runtime)
    return torch.from_numpy(KeyIndex(items).lookup(keys) >= 0)


def allowed_items(
    protocol: Protocol, encoder: RowEncoder, train: Mapping[str, EventFiles], runtime: Runtime
) -> Tensor | None:
    """``[domains, C]`` bool, which of all items take part for rows of each domain; None: all of them. A collective.

    Args:
        protocol: what a user asks for.
        encoder: of the experiment.
        train: domain -> its training events; of those that are looked at.
        runtime: the process group.
    """
    keys, domains = encoder.items(trained=False).keys, encoder.layout.domains
    if protocol.domain is not None:
        of_one = items_of_domain(protocol.domain, train[protocol.domain], encoder, keys, runtime)
        return of_one.expand(len(domains), -1)
    if not protocol.within_domains(encoder.experiment):
        return None
    return torch.stack([items_of_domain(name, train[name], encoder, keys, runtime) for name in domains])


def train_within_domains(encoder: RowEncoder, allowed: Tensor) -> None:
    """Has candidates of training be those of a row's own domain: what is ``allowed [domains, C]`` of all items.

    A domain without users seeks nothing, so none are drawn for it.
    """
    domains = [encoder.experiment.domains[name] for name in encoder.layout.domains]
    rows, by_row = encoder.items(trained=False).rows, np.zeros((len(encoder.item_counts.by_row), len(allowed)), bool)
    for d, there in enumerate(allowed.numpy()):
        by_row[rows[there], d] = domains[d].users
    encoder.item_counts = encoder.item_counts.in_domains(by_row)


def drawn_negatives(
    rows: NDArray[np.uint64], pool: NDArray[np.int64], left_out: tuple[NDArray, NDArray], items: int, wanted: int
) -> NDArray[np.int64]:
    """``[B, wanted]`` items drawn at random without replacement, -1 where there are no more; what a row draws depends on itself alone.

    Args:
        rows: ``[B]`` what tells a row from all others.
        pool: ``[P]`` positions of the items that may be drawn, in an order of their own: by key, draws are of keys, wherever items stand.
        left_out: row and position, ``[G]`` each, of items that it may not draw: its own, and past ones.
        items: C, how many there are, of which positions are.
        wanted: for each row.
    """
    forbidden = np.unique(left_out[0] * items + left_out[1])
    out = np.full((len(rows), wanted), -1, np.int64)
    left, size = np.arange(len(rows)), 2 * wanted + _AT_FIRST
    while len(left):  # those that need more draws than others; the others' are not changed by it
        of_row = mix(rows[left] ^ _SEED)[:, None]
        if whole := size >= len(pool):  # all of them, in a random order
            order = np.argsort(mix(of_row ^ mix(np.arange(len(pool), dtype=np.uint64))[None]), axis=1)
            drawn = pool[order]
        else:
            drawn = pool[(mix(of_row + np.arange(size, dtype=np.uint64)[None]) % np.uint64(len(pool))).astype(np.int64)]
        fine = ~np.isin(left[:, None] * items + drawn, forbidden)
        if not whole:
            fine &= _first_of_their_kind(drawn)
        place = np.cumsum(fine, axis=1) - 1
        enough = fine.sum(1) >= wanted
        done = np.ones(len(left), bool) if whole else enough
        row, at = np.nonzero(fine & (place < wanted) & done[:, None])
        out[left[row], place[row, at]] = drawn[row, at]
        left, size = left[~done], 2 * size
    return out


def _first_of_their_kind(drawn: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``[B, K]`` bool, whether no place before in the same row has the same item."""
    order = np.argsort(drawn, axis=1, kind="stable")
    ordered = np.take_along_axis(drawn, order, 1)
    first = np.ones(drawn.shape, bool)
    first[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    out = np.empty_like(first)
    np.put_along_axis(out, order, first, 1)
    return out
