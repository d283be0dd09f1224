"""Vectors of past items and of candidates, from their lookups and texts."""

import torch
from torch import Tensor, nn
from torchrec import KeyedTensor

from ..data.batch import Batch
from ..data.layout import Layout, candidate_key, id_key, past_key
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
        self._past_keys = [past_key(back) for back in reversed(range(layout.past))]
        self._candidate_keys = [candidate_key(place) for place in range(layout.candidates)]
        self._at: Tensor | None = None

    def _lookups(self, pooled: KeyedTensor, past: Past) -> Tensor:
        """``[N + M, embedding_dim]``: one pick from all lookups, as a slice per key would cost a pass each in backward."""
        values, names = pooled.values(), pooled.keys()
        if self._at is None:
            order = {name: place for place, name in enumerate(names)}
            places = [order[key] for key in (*self._past_keys, *self._candidate_keys)]
            self._at = torch.tensor(places, device=values.device)
        bags, columns = len(values), len(self._past_keys)
        of_past = past.at // columns * len(names) + self._at[past.at % columns]
        place = torch.arange(len(past.candidates), device=values.device)
        of_candidates = place % bags * len(names) + self._at[columns:][place // bags]
        return values.view(bags * len(names), -1).index_select(0, torch.cat([of_past, of_candidates]))

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
        ids = self._lookups(pooled, past)
        counts = torch.cat([past.counts, past.candidate_counts])
        text_at = torch.cat([past.text_at, past.candidate_text_at])
        vectors = encoder.items(ids, counts, past.texts.float(), text_at, domain)
        items, candidates = vectors.split([len(past.rows), len(past.candidates)])
        return Sequence.of(past, items, self.layout.past), candidates

    def own(self, pooled: KeyedTensor, batch: Batch, encoder: Encoder, domain: Tensor) -> Tensor:
        """``[B, D]``: the rows' own items, in the same space. Arguments as of `forward`."""
        rows, layout = batch.rows, self.layout
        counts = batch.id_counts[:, layout.entities.index("item")].clamp_min(0)
        texts, text_at = batch.dense.new_zeros(0, 0), torch.full_like(batch.domains, -1)
        if "text" in encoder.owners["item"]:
            name = layout.text_of["item"]
            texts = batch.vectors[name].float()
            text_at = torch.where(batch.vector_present[name], torch.arange(rows, device=counts.device), -1)
        return encoder.items(pooled[id_key("item")][:rows], counts, texts, text_at, domain)
