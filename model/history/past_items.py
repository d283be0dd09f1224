"""Vectors of past items and of candidates, from their lookups, contents and features."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn
from torchrec import KeyedTensor

from ...data.batch.batch import Batch
from ...data.batch.past_items import Past
from ...data.schema.layout import Layout, attention_key, candidate_key, id_key, past_feature_key, past_key
from ..representation.lookups import lengths, list_lengths
from ..representation.owner_vectors import OwnerVectors
from ..representation.sparse_aspect import PooledFeatures
from .sequence import Sequence


class PastItems(nn.Module):
    """Picks the lookups of past items, of candidates and of the rows' own items, and fuses each item's aspects.

    It has no parameters of its own: an item of the past is what the same item is when it is shown.
    """

    dense_columns: Tensor

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout = layout
        # Columns of [B, L] are keys, the newest being the last.
        backs = range(layout.past - 1, -1, -1)
        keys = [*map(past_key, backs), *map(candidate_key, range(layout.candidates))]
        self._keys = [
            *(keys if layout.ids else ()),
            *(past_feature_key(f, key) for f in layout.past_features for key in keys),
        ]
        self._keys += [attention_key(back) for back in backs] if layout.attention else []
        self._at = self._in_batch = torch.empty(0)
        self.register_buffer("dense_columns", torch.tensor(layout.past_dense, dtype=torch.int64), persistent=False)

    def _lookups(self, pooled: KeyedTensor, batch: Batch, past: Past) -> list[Tensor]:
        """``[N + M, embedding_dim]`` of ids, zeros where these are not looked up, then of each feature, and ``[N, embedding_dim]`` for attention where that has a table:
        one pick from all lookups, as a slice per key would cost a pass each in backward."""
        values, names = pooled.values(), pooled.keys()
        if not len(self._at):
            self._at = places(names, self._keys, values.device)
            self._in_batch = places(self.layout.keys, self._keys, values.device)
        layout, n, bags = self.layout, len(past.at), len(values)
        place = torch.arange(len(past.candidates), device=values.device)
        row = torch.cat([past.at // layout.past, place % bags])
        key = torch.cat([past.at % layout.past, place // bags + layout.past])
        kinds = range(layout.ids + len(layout.past_features))
        keys = [key + number * (layout.past + layout.candidates) for number in kinds]
        if layout.attention:
            keys.append(key[:n] + len(keys) * (layout.past + layout.candidates))
        found: list[Tensor] = []
        if keys:
            picked = torch.cat([row[: len(of)] * len(names) + self._at[of] for of in keys])
            found += values.view(bags * len(names), -1).index_select(0, picked).split([len(of) for of in keys])
        if not layout.ids:
            nothing = values.new_zeros(len(key), values.shape[1] // len(names))
            keys, found = [key, *keys], [nothing, *found]
        for number, feature in enumerate(layout.past_features, 1):
            if feature in layout.lists:
                many = lengths(batch, layout)[self._in_batch[keys[number]], row]
                found[number] = found[number] / many.clamp_min(1)[:, None]
        return found

    def forward(
        self, pooled: KeyedTensor, batch: Batch, encoder: OwnerVectors, domain: Tensor
    ) -> tuple[Sequence, Tensor]:
        """The past items of B rows, and M candidates.

        Args:
            pooled: key -> ``[P, embedding_dim]``.
            batch: B rows with ``past``.
            encoder: whose item projections and gate are used.
            domain: ``[D]``, in place of a row's domain: an item's vector must not depend on where it is looked for.

        Returns:
            The sequence, items ``[N, D]``; and ``[M, D]``, both float32.
        """
        past, features = batch.past, self.layout.past_features
        assert past is not None
        ids, *others = self._lookups(pooled, batch, past)
        of_features = dict(zip(features, others, strict=False))
        described = PooledFeatures(of_features, past.dense, past.described)
        counts = torch.cat([past.counts, past.candidate_counts])
        gathered = {name: (distinct.float(), past.vector_at[name]) for name, distinct in past.vectors.items()}
        vectors = encoder.items(ids, counts, gathered, described, domain)
        items, candidates = vectors.split([len(past.rows), len(past.candidates)])
        sequence = Sequence.of(past, items, self.layout.past)
        if self.layout.attention:
            n = len(past.rows)
            ids = others[-1]
            of_past = {name: (distinct, at[:n]) for name, (distinct, at) in gathered.items()}
            looked_at = encoder.items(ids, counts[:n], of_past, described.first(n), domain)
            at_hand = self.own(pooled, batch, encoder, domain, attention_key(None))
            sequence = replace(sequence, attention=(looked_at, at_hand))
        return sequence, candidates

    def own(
        self, pooled: KeyedTensor, batch: Batch, encoder: OwnerVectors, domain: Tensor, key: str = id_key("item")
    ) -> Tensor:
        """``[B, D]``: the rows' own items, in the same space, their ids looked up under ``key``; else as `forward`."""
        rows, layout = batch.rows, self.layout
        counts = batch.id_counts[:, layout.entities.index("item")].clamp_min(0)
        place = torch.arange(rows, device=counts.device)
        gathered = {
            name: (batch.vectors[name].float(), torch.where(batch.vector_present[name], place, -1))
            for name in (*layout.past_contents, *layout.past_vectors)
        }
        features, dense = layout.past_features, batch.dense.index_select(1, self.dense_columns)
        present, given = (dense != 0).any(1), lengths(batch, layout)
        for name in layout.past_vectors:
            present = present | batch.vector_present[name]
        for feature in features:
            present = present | (given[layout.keys.index(feature), :rows] > 0)
        ids, *others = self._of_rows(pooled, (key, *features), rows)
        of_features = {
            feature: sums / list_lengths(batch, layout, feature) if feature in layout.lists else sums
            for feature, sums in zip(features, others, strict=True)
        }
        return encoder.items(ids, counts, gathered, PooledFeatures(of_features, dense, present), domain)

    def _of_rows(self, pooled: KeyedTensor, keys: tuple[str, ...], rows: int) -> list[Tensor]:
        """``[B, embedding_dim]`` of each of some keys, in one pick."""
        values, names = pooled.values(), pooled.keys()
        if len(keys) == 1:
            return [pooled[keys[0]][:rows]]
        width = values.shape[1] // len(names)
        at = torch.arange(rows, device=values.device) * len(names)
        picked = torch.cat([at + names.index(key) for key in keys])
        return list(values.view(-1, width).index_select(0, picked).view(len(keys), rows, width).unbind())


def places(among: Iterable[str], keys: list[str], device: torch.device) -> Tensor:
    """``[K]`` int64: where some keys stand among all."""
    place = {name: at for at, name in enumerate(among)}
    return torch.tensor([place[key] for key in keys], dtype=torch.int64, device=device)
