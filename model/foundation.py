"""The S&R Multi-Domain Foundation, after the description of the paper (CIKM 2023, arXiv 2309.08939)."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchrec import KeyedTensor

from ..data.batch import Batch
from ..data.layout import Layout
from ..data.settings import ModelConfig
from .alignment import ALIGNMENTS
from .domain_adaptive import DomainAdaptiveLayer
from .embeddings import make_embeddings
from .heads import make_head
from .loss import multitask_loss
from .representation import Owners, SideBySide


class Foundation(nn.Module):
    """Tables, and everything else.

    ``forward`` is two calls and no more: TorchRec's pipeline traces it, and takes ``dense`` as one opaque step.

    Args:
        layout: what a batch holds.
        config: widths and variants.
        batch_size: nominal rows per rank and step; the loss is a sum divided by it.
        precision: ``fp32``, or ``bf16`` to autocast the dense part (gates, towers, losses and alignment stay float32).

    Attributes:
        embeddings: the tables, on the meta device until sharded or materialised.
        dense: all other parameters. Each of them gets a gradient in every backward, zero where a batch has nothing
            for it, B = 0 included, so data-parallel training need not look for unused ones.
    """

    def __init__(self, layout: Layout, config: ModelConfig, batch_size: int, precision: str = "fp32"):
        super().__init__()
        self.embeddings = make_embeddings(layout, config.embedding_dim)
        self.dense = Dense(layout, config, batch_size, precision)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """The loss (float32 scalar) and the outputs described in `Dense.forward`."""
        pooled = self.embeddings(batch.sparse)
        return self.dense(pooled, batch)


class Dense(nn.Module):
    """From pooled lookups to the loss: encode, fuse, adapt, mix, predict. Arguments as in `Foundation`."""

    task_weights: Tensor

    def __init__(self, layout: Layout, config: ModelConfig, batch_size: int, precision: str):
        super().__init__()
        self.layout = layout
        self.batch_size = batch_size
        self.bf16 = precision == "bf16"
        domains = len(layout.domains)
        self.represent = (SideBySide if config.gate == "none" else Owners)(layout, config)
        self.domain_embedding = nn.Parameter(torch.randn(domains, config.width) * 0.1)
        width, self.adaptive = self.represent.size, None
        if config.domain_width:
            self.adaptive = DomainAdaptiveLayer(domains, width, config.domain_width, config.width)
            width = config.domain_width
            self.norm = nn.LayerNorm(width)
        self.align, self.alignment_weight = ALIGNMENTS[config.alignment], config.alignment_weight
        self.id_from_text = config.id_from_text
        self.shared_head = config.shared_head
        self.head = make_head(
            config.head,
            size=width,
            domains=1 if config.shared_head else domains,
            tasks=len(layout.tasks),
            experts=config.experts,
            widths=config.expert_widths,
            tower_widths=config.tower_widths,
            dropout=config.dropout,
        )
        self.register_buffer("task_weights", torch.tensor(layout.task_weights), persistent=False)

    def forward(self, pooled: KeyedTensor, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        """The loss and what else is worth knowing.

        Args:
            pooled: key -> ``[P, embedding_dim]``, P >= B; rows B and beyond are padding.
            batch: B rows.

        Returns:
            The loss, a float32 scalar: multi-task loss + alpha x alignment + the weighted error of ids predicted from texts; and, detached and float32,
            ``logits [B, T]``, ``losses`` and ``counts`` ``[domains, T]`` (sums of unweighted losses, labels),
            ``alignment`` (scalar, before alpha) and ``gates``: owner -> ``[B, A]``, columns as in ``represent.encoder.owners``.
        """
        lengths = batch.domain_lengths
        batch = replace(batch, vectors={name: vectors.float() for name, vectors in batch.vectors.items()})
        with torch.autocast(batch.dense.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            domains = self.domain_embedding.index_select(0, batch.domains)
            x, gates, off = self.represent(pooled, batch, domains)
            z = x if self.adaptive is None else self.adaptive(x, self.domain_embedding, lengths).float()
            seen = z if self.adaptive is None else F.relu(self.norm(z))
            logits = self.head(seen, [batch.rows] if self.shared_head else lengths)
        loss, losses, counts = multitask_loss(logits, batch, self.task_weights, self.batch_size)
        alignment = self.align(z.float(), lengths)
        outputs = {
            "logits": logits.detach(),
            "losses": losses,
            "counts": counts,
            "alignment": alignment.detach(),
            "gates": {owner: weights.detach() for owner, weights in gates.items()},
        }
        return loss + self.alignment_weight * alignment + self.id_from_text * off / self.batch_size, outputs
