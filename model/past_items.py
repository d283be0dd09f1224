"""Vectors of past items and of candidates, from their lookups and texts."""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torchrec import KeyedTensor

from ..data.batch import Batch
from ..data.layout import Layout, attention_key, candidate_key, id_key, past_key
from ..data.past import Past
from .encoder import Encoder
from .sequence import Sequence


class PastItems(nn.Module):
    """Picks the lookups of past items, of candidates and of the rows' own items, and fuses each item's id and text.

    It has no parameters of its own: an item of the past is what the same item is when it is shown.
    """

    def __init__(self, layout: Layout):
        super().__init__()
        self.layout = layout
        # Columns of [B, L] are keys, the newest being the last.
        backs = range(layout.past - 1, -1, -1)
        self._keys = [past_key(back) for back in backs]
        self._keys += [candidate_key(place) for place in range(layout.candidates)]
        self._keys += [attention_key(back) for back in backs] if layout.attention else []
        self._at: Tensor | None = None

    def _lookups(self, pooled: KeyedTensor, past: Past) -> list[Tensor]:
        """``[N + M, embedding_dim]``, and ``[N, embedding_dim]`` for attention where that has a table: one pick from all lookups,
        as a slice per key would cost a pass each in backward."""
        values, names = pooled.values(), pooled.keys()
        if self._at is None:
            order = {name: place for place, name in enumerate(names)}
            self._at = torch.tensor([order[key] for key in self._keys], device=values.device)
        bags, columns = len(values), self.layout.past
        place = torch.arange(len(past.candidates), device=values.device)
        row, column = past.at // columns * len(names), past.at % columns
        picked = [row + self._at[column], place % bags * len(names) + self._at[columns:][place // bags]]
        sizes = [len(row) + len(place)]
        if self.layout.attention:
            picked.append(row + self._at[columns + self.layout.candidates :][column])
            sizes.append(len(row))
        return list(values.view(bags * len(names), -1).index_select(0, torch.cat(picked)).split(sizes))

    def forward(self, pooled: KeyedTensor, batch: Batch, encoder: Encoder, domain: Tensor) -> tuple[Sequence, Tensor]:
        """The past items of B rows, and M candidates.

        Args:
            pooled: key -> ``[P, embedding_dim]``.
            batch: B rows with ``past``.
            encoder: whose item projections and gate are used.
            domain: ``[D]``, in place of a row's domain: an item's vector must not depend on where it is looked for.

        Returns:
            The sequence, items ``[N, D]``; and ``[M, D]``, both float32.
        """
        past = batch.past
        assert past is not None
        ids, *of_attention = self._lookups(pooled, past)
        counts = torch.cat([past.counts, past.candidate_counts])
        text_at = torch.cat([past.text_at, past.candidate_text_at])
        vectors = encoder.items(ids, counts, past.texts.float(), text_at, domain)
        items, candidates = vectors.split([len(past.rows), len(past.candidates)])
        sequence = Sequence.of(past, items, self.layout.past)
        if of_attention:
            n = len(past.rows)
            looked_at = encoder.items(of_attention[0], counts[:n], past.texts.float(), text_at[:n], domain)
            at_hand = self.own(pooled, batch, encoder, domain, attention_key(None))
            sequence = replace(sequence, attention=(looked_at, at_hand))
        return sequence, candidates

    def own(
        self, pooled: KeyedTensor, batch: Batch, encoder: Encoder, domain: Tensor, key: str = id_key("item")
    ) -> Tensor:
        """``[B, D]``: the rows' own items, in the same space, their ids looked up under ``key``; else as `forward`."""
        rows, layout = batch.rows, self.layout
        counts = batch.id_counts[:, layout.entities.index("item")].clamp_min(0)
        texts, text_at = batch.dense.new_zeros(0, 0), torch.full_like(batch.domains, -1)
        if "text" in encoder.owners["item"]:
            name = layout.text_of["item"]
            texts = batch.vectors[name].float()
            text_at = torch.where(batch.vector_present[name], torch.arange(rows, device=counts.device), -1)
        return encoder.items(pooled[key][:rows], counts, texts, text_at, domain)
