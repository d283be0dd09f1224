"""Where the next item ranks among all items: hit rate, NDCG and MRR; and what the lists are worth that it is ranked in."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...data.arrow.ids import id_keys, mix
from ...data.batch.row_encoder import RowEncoder
from ...data.events.event_files import EventFiles
from ...data.schema.layout import Layout
from ...model.tasks.spread import ALONE, Spread, total
from ..exchange.over_ranks import OverRanks
from ..ranks.runtime import Runtime
from ..retrieval.candidates import drawn_negatives
from ..retrieval.list_metrics import catalog_metrics, list_counts, list_means
from ..retrieval.lists import ListTeller
from ..retrieval.protocol import PLACES, Protocol
from ..retrieval.rankings import ranks_of_scores
from ..retrieval.retrieval import Retriever
from ..retrieval.search import CELLS
from ..run.finite import usable
from .column_slices import ColumnSlices
from .predict import in_order_of_files
from .predictions import predictions
from .slices import slices_by_count

CUTOFFS = (5, 10, PLACES)
_PREFIXES = ("", "popularity_")
ALL_ITEMS = Protocol()


@dataclass(frozen=True)
class Among:
    """The items that the own of each row of a domain is ranked among.

    Attributes:
        items: how many, its own being one.
        digest: SHA-256 of the keys of all that take part, or of those that are drawn from.
    """

    items: int
    digest: str


def next_item_rows(
    model: nn.Module,
    encoder: RowEncoder,
    files: Mapping[str, EventFiles],
    runtime: Runtime,
    allowed: Tensor | None = None,
) -> list[dict[str, Any]]:
    """`metric_rows` of `next_item_ranks`, whose arguments it takes; on rank 0, elsewhere an empty list."""
    columns, _ = next_item_ranks(model, encoder, files, runtime, allowed=allowed)
    rows = metric_rows(columns, encoder.layout, spread=OverRanks(runtime)) if columns else []
    return rows if runtime.is_main else []


def next_item_ranks(
    model: nn.Module,
    encoder: RowEncoder,
    files: Mapping[str, EventFiles],
    runtime: Runtime,
    protocol: Protocol = ALL_ITEMS,
    allowed: Tensor | None = None,
    lists: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, Among]]:
    """Where the item of each row ranks among all items, or those that a protocol names, given the row's past.

    An item that ties with others ranks behind them, and one that nothing is known of behind all. Past items are left out of the
    ranking, unless one of them is the next, or the protocol says that they come again. Beside the model's: how items rank by their
    count in training.

    Args:
        model: with a next-item objective; returned in the mode it came in.
        encoder: of the experiment.
        files: domain -> files.
        runtime: the process group.
        protocol: which items take part. Of those that are drawn, none is one that nothing is known of.
        allowed: ``[domains, C]`` bool, as of `allowed_items`: which of all items take part for rows of each domain; None: all of them.
        lists: whether rows' lists are told of, too; they are where the protocol asks for slates, and are not where it draws items.

    Returns:
        Columns ``[N]`` of this rank's rows, in the order of `predict`'s: ``rank`` and ``popularity_rank`` (0: first), ``percentile`` and
        ``popularity_percentile`` (as of `percentiles`), ``chosen`` (whether the row
        counts, as of `Rows.chosen`), ``predicted`` (whether a number came out), ``items`` (how many it is ranked among), ``domain``, ``user``, ``user_known`` and ``counts``, and those of `ListTeller`;
        and domain -> among which items its rows' are ranked, of those that ``files`` name and that have users. No columns where there are no rows at all.
    """
    repeats = protocol.repeats(encoder.experiment)
    was_training = model.training
    model.eval()
    columns: dict[str, list[np.ndarray]] = {}
    retriever = Retriever(model, encoder, runtime).narrower(protocol.width)
    popularity = torch.from_numpy(retriever.items.counts)
    keys, known = retriever.items.keys, ~retriever.unknown.cpu()
    every = torch.ones(len(encoder.layout.domains), len(keys), dtype=torch.bool) if allowed is None else allowed
    pools = [_by_key((here & known).nonzero()[:, 0].numpy(), keys) for here in every] if protocol.negatives else []
    telling = (lists and not protocol.negatives) or protocol.slate is not None
    teller = ListTeller(retriever, protocol) if telling else None
    # A domain's name is the same in another run, its position need not be.
    of_domains: NDArray[np.uint64] = id_keys(pa.array(encoder.layout.domains))[0]
    for outputs, batch in predictions(model, encoder, files, runtime):
        assert batch.past is not None
        assert outputs.user is not None
        users = retriever.cut(outputs.user.float())
        fine = usable(users)
        users = torch.where(fine[:, None], users, 0)
        target = torch.from_numpy(retriever.place_of_keys(batch.host["item_key"]).astype(np.int64))
        row, place = retriever.past_of(batch, encoder.layout.past)
        for start in range(0, batch.rows, step := max(1, CELLS // max(len(retriever.items), 1))):
            part = slice(start, start + step)
            inside = (row >= start) & (row < start + step)
            past = row[inside] - start, place[inside]
            gone = (past[0][:0], past[1][:0]) if repeats else past
            domains, drawn = batch.domains[part].numpy(), None
            if protocol.negatives:
                tells = mix(batch.host["row"][part].astype(np.uint64)) ^ of_domains[domains]
                own = (target[part] >= 0).nonzero()[:, 0]
                left_out = torch.cat([gone[0], own]).numpy(), torch.cat([gone[1], target[part][own]]).numpy()
                drawn = _drawn(tells, pools, domains, left_out, len(keys), protocol.negatives)
            by_count = popularity.expand(len(target[part]), -1).clone()
            barred = None if allowed is None else ~allowed[batch.domains[part]]
            if teller is None:
                ranks, of_lists = retriever.ranking.ranks(users[part], target[part], gone, barred, drawn), {}
            else:
                ranks, of_lists = teller.of(users[part], target[part], gone, barred, past)
            kept = {
                "rank": ranks.numpy(),
                "popularity_rank": ranks_of_scores(by_count, target[part], gone, barred, drawn).numpy(),
                "chosen": batch.past.chosen[part].numpy(),
                "domain": batch.domains[part].numpy(),
                "predicted": fine[part].cpu().numpy(),
                "counts": batch.id_counts[part].numpy(),
                "user": batch.host["user"][part],
                "user_known": batch.host["user_known"][part],
                **of_lists,
            }
            for name, values in kept.items():
                columns.setdefault(name, []).append(values)
    model.train(was_training)
    items = np.array([1 + min(protocol.negatives, len(pool)) for pool in pools] or every.sum(1).tolist())
    taking_part = [keys[pool] for pool in pools] or [keys[here] for here in every.numpy()]
    among = {
        name: Among(int(items[d]), _digest(taking_part[d]))
        for d, name in enumerate(encoder.layout.domains)
        if name in files and encoder.experiment.domains[name].users
    }
    if not columns:
        return {}, among
    found = in_order_of_files({name: np.concatenate(columns.pop(name)) for name in list(columns)})
    found["items"] = items[found["domain"]]
    of_ranks = {
        name.replace("rank", "percentile"): percentiles(found[name], found["items"])
        for name in ("rank", "popularity_rank")
    }
    return found | of_ranks, among


def _by_key(places: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    return places[np.argsort(keys[places])]


def _drawn(
    rows: NDArray[np.uint64],
    pools: Sequence[NDArray[np.int64]],
    domains: NDArray[np.int64],
    left_out: tuple[NDArray, NDArray],
    items: int,
    wanted: int,
) -> Tensor:
    """``[B, wanted]``, as of `drawn_negatives`, each row's from the pool of its domain ``[B]``."""
    out = np.full((len(rows), wanted), -1, np.int64)
    for domain in np.unique(domains):
        here = np.flatnonzero(domains == domain)
        mine = np.isin(left_out[0], here)
        of_these = np.searchsorted(here, left_out[0][mine]), left_out[1][mine]
        out[here] = drawn_negatives(rows[here], pools[domain], of_these, items, wanted)
    return torch.from_numpy(out)


def _digest(keys: NDArray[np.uint64]) -> str:
    return hashlib.sha256(np.sort(keys).astype("<u8").tobytes()).hexdigest()


def metric_rows(
    columns: Mapping[str, np.ndarray],
    layout: Layout,
    columns_to_slice: Sequence[ColumnSlices] = (),
    spread: Spread = ALONE,
) -> list[dict[str, Any]]:
    """Hit rate, NDCG and MRR, per domain and slice; of rows that are spread over ranks, of all of them, on every rank.

    Returns:
        Rows with ``domain``, ``slice`` (as of `slices_by_count`, and those of ``columns_to_slice``), ``rows``, ``items``, ``overflowed``
        (rows whose user came out as no number; they are in no metric), and ``hr@K``, ``ndcg@K``, ``mrr@K`` and ``percentile`` with
        ``popularity_`` before them too; and where there are lists those of `list_means`, and `catalog_metrics` of all rows of a domain.
    """
    slices = slices_by_count({name: columns["counts"][:, at] for at, name in enumerate(layout.entities)})
    for column in columns_to_slice:
        slices |= column.masks()
    counts, items = [], []
    for d in range(len(layout.domains)):
        of_domain = columns["chosen"] & (columns["domain"] == d)
        items.append(columns["items"][of_domain].max(initial=0))
        counts.append([_counts(columns, of_domain & of_slice) for of_slice in slices.values()])
    of_all, among = total(np.array(counts, np.int64), spread), spread.each(np.array(items)).max(0).tolist()
    out, of_ranks = [], len(_PREFIXES) * (1 + CUTOFFS[-1])
    for d, (domain, found, of_domain) in enumerate(zip(layout.domains, of_all, among, strict=True)):
        mine = columns["chosen"] & columns["predicted"] & (columns["domain"] == d)
        of_catalog = catalog_metrics(columns["listed"][mine], of_domain, spread) if "listed" in columns else {}
        for name, (rows, overflowed, *of_slice) in zip(slices, found.tolist(), strict=True):
            if not rows and not overflowed:
                continue
            row = {"domain": domain, "slice": name, "rows": rows, "items": of_domain, "overflowed": overflowed}
            for prefix, held in zip(_PREFIXES, np.split(np.array(of_slice[:of_ranks]), len(_PREFIXES)), strict=True):
                numbers = rank_metrics(held[1:], rows)
                numbers["percentile"] = 1 - held[0].item() / (rows * max(of_domain - 1, 1)) if rows else None
                row |= {f"{prefix}{metric}": value for metric, value in numbers.items()}
            row |= list_means(of_slice[of_ranks:]) | (of_catalog if name == "all" else {})
            out.append(row)
    return out


def _counts(columns: Mapping[str, np.ndarray], inside: NDArray[np.bool_]) -> list[int]:
    """Of rows, what their metrics follow from, in whole numbers, whose sums over ranks are exact: how many have a number, how many have
    none; by the model and by popularity, how many items are ahead of theirs, all rows together, and how many rows are in each place
    up to the last cutoff; and `list_counts`.
    """
    predicted = inside & columns["predicted"]
    out = [predicted.sum(), (inside & ~columns["predicted"]).sum()]
    for prefix in _PREFIXES:
        ranks = columns[f"{prefix}rank"][predicted]
        out.append(np.minimum(ranks, np.maximum(columns["items"][predicted] - 1, 1)).sum())
        out += np.bincount(ranks[ranks < CUTOFFS[-1]], minlength=CUTOFFS[-1]).tolist()
    return out + list_counts(columns, predicted)


def percentiles(ranks: np.ndarray, items: np.ndarray) -> np.ndarray:
    """``[N]`` float64: which share of the other of ``items [N]`` ranks behind the one at ``ranks [N]``; 1 is best, chance one half."""
    others = np.maximum(items - 1, 1)
    return 1 - np.minimum(ranks, others) / others


def mean_ndcg(rows: list[dict[str, Any]]) -> float | None:
    """One number to choose a checkpoint by: NDCG@10 over all rows of all domains."""
    every = [row for row in rows if row["slice"] == "all" and row["rows"]]
    total = sum(row["rows"] for row in every)
    return sum(row["ndcg@10"] * row["rows"] for row in every) / total if total else None


def rank_metrics(places: np.ndarray, rows: int) -> dict[str, float | None]:
    """Hit rate, NDCG and MRR at each cutoff, of one relevant item per row, of which ``places [K]`` rows have theirs in each place.

    None for no rows.
    """
    if not rows:
        return {f"{metric}@{cutoff}": None for cutoff in CUTOFFS for metric in ("hr", "ndcg", "mrr")}
    out: dict[str, float | None] = {}
    place = np.arange(len(places))
    for cutoff in CUTOFFS:
        hits = np.where(place < cutoff, places, 0)
        out[f"hr@{cutoff}"] = float(hits.sum() / rows)
        out[f"ndcg@{cutoff}"] = float((hits / np.log2(place + 2)).sum() / rows)
        out[f"mrr@{cutoff}"] = float((hits / (place + 1)).sum() / rows)
    return out
