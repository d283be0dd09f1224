"""The S&R Multi-Domain Foundation, after the description of the paper (CIKM 2023, arXiv 2309.08939)."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchrec import KeyedTensor

from ...data.batch.batch import Batch
from ...data.config.sections.model import ModelConfig
from ...data.schema.layout import BIAS, Layout
from ..heads.bias_tower import BiasTower
from ..history.history import History
from ..layers.axes import Axis, at_level, declare, input_axis, layer_norm, named
from ..layers.domain_adaptive import DomainAdaptiveLayer
from ..layers.domain_rows import DomainRows, to_rows
from ..layers.forms import EVERY, normed_relu
from ..layers.precision import chosen_precision
from ..losses.list_losses import ListLosses
from ..representation.embedding_tables import make_embeddings
from ..representation.representation import ItemsOnly, Owners, SideBySide
from ..tasks.multitask_loss import multitask_loss
from ..tasks.task_columns import TaskColumns
from .outputs import Outputs


class Foundation(nn.Module):
    """Tables, and everything else.

    Its parameters have levels, from what all domains share to what each has for itself. After the description of the S&R
    Multi-Domain Foundation (CIKM 2023), in this project's reading:

        L0  embedding tables and text projections
        L1  row and history encoders and gates: id projections, sparse aspects, ids from texts, the vectors of unknown ids and of no query
        L2  domain embeddings, domain-adaptive layer, experts and the gates over them
        L3  towers, that of features with ``bias`` included

    ``forward`` is two calls and no more: TorchRec's pipeline traces it, and takes ``dense`` as one opaque step.

    Args:
        layout: what a batch holds.
        config: widths and variants.
        batch_size: nominal rows per rank and step; the loss is a sum divided by it.
        precision: ``fp32``, or ``bf16`` to autocast the dense part (gates, towers, losses and alignment stay float32), or
            ``auto`` for what is faster on the batch's device.
        half_tables: whether the tables are float16; what is looked up is float32 all the same.

    Attributes:
        embeddings: the tables, on the meta device until sharded or materialised.
        dense: all other parameters. Each of them gets a gradient in every backward, zero where a batch has nothing
            for it, B = 0 included, so data-parallel training need not look for unused ones.
    """

    def __init__(
        self,
        layout: Layout,
        config: ModelConfig,
        batch_size: int,
        precision: str = "fp32",
        half_tables: bool = False,
    ):
        super().__init__()
        self.embeddings = at_level("L0", make_embeddings(layout, config.embedding_dim, half=half_tables))
        self.dense = at_level("L2", Dense(layout, config, batch_size, precision))

    def forward(self, batch: Batch) -> tuple[Tensor, Outputs]:
        """The loss (float32 scalar), as of `Dense.forward`, and what else the model says."""
        pooled = self.embeddings(batch.sparse)
        return self.dense(pooled, batch)


def dense_part(model: nn.Module) -> "Dense":
    """The dense part of a model, sharded or not."""
    return next(module for module in model.modules() if isinstance(module, Dense))


class Dense(nn.Module):
    """From pooled lookups to the loss: encode, fuse, adapt, mix, predict. Arguments as in `Foundation`.

    Attributes:
        inputs: the axis of what represents a row.
        in_training: what computes steps of a training in place of `compute`; None: nothing does.
    """

    task_weights: Tensor
    offsets: Tensor | None
    no_domain: Tensor
    domain_embedding: nn.Parameter
    represent: Any  # Owners, SideBySide or ItemsOnly
    in_training: Callable[[KeyedTensor, Batch], tuple[Tensor, Outputs]] | None = None

    def __init__(self, layout: Layout, config: ModelConfig, batch_size: int, precision: str):
        super().__init__()
        self.layout = layout
        self.batch_size = batch_size
        self.precision = precision
        self.target = config.target
        self.history = History(layout, config, batch_size) if layout.past else None
        self.adaptive: DomainAdaptiveLayer | None = None
        self.bias_tower: BiasTower | None = None
        self.ranks, self.shared_head = bool(layout.tasks), config.shared_head
        if self.ranks:
            self._make_ranking(layout, config)
        else:
            self.represent = at_level("L1", ItemsOnly(layout, config))
            self.inputs = input_axis(self.represent.inputs)
            self.register_buffer("no_domain", torch.zeros(config.width), persistent=False)

    def _make_ranking(self, layout: Layout, config: ModelConfig) -> None:
        domains, tasks = named("domain", layout.domains), named("task", layout.outputs, layout.output_kinds)
        self.represent = at_level("L1", (SideBySide if config.gate.kind == "none" else Owners)(layout, config))
        self.domain_embedding = nn.Parameter(torch.randn(domains.size, config.width) * 0.1)
        declare(self, {"domain_embedding": (domains, "width")})
        self.inputs = seen = input_axis(self.represent.inputs)
        learned = self.represent.learned
        if config.domain_width:
            self.adaptive = DomainAdaptiveLayer(domains, seen, config.domain_width, config.width)
            seen, learned = Axis("in", config.domain_width), EVERY
            self.norm = layer_norm(config.domain_width)
        self.align, self.alignment_weight = config.alignment.penalty, config.alignment_weight
        self.id_from_text = config.id_from_text
        of_head = Axis("domain", 1) if config.shared_head else domains
        self.head = config.head.build(seen, of_head, tasks, learned)
        if BIAS in layout.sparse_of:
            outputs = replace(tasks, kind="output")
            self.bias_tower = BiasTower(layout, config.embedding_dim, domains, outputs, config.bias_dropout)
        self.tasks = TaskColumns(layout.task_kinds, layout.task_scales, layout.task_parents)
        some = any(loss is not None for of_domain in layout.list_losses for loss in of_domain)
        self.list_losses = ListLosses(layout, self.batch_size) if some else None
        self.register_buffer("task_weights", torch.tensor(layout.task_weights), persistent=False)
        shifted = any(any(of_domain) for of_domain in layout.output_offsets)
        self.register_buffer("offsets", torch.tensor(layout.output_offsets) if shifted else None, persistent=False)

    def forward(self, pooled: KeyedTensor, batch: Batch) -> tuple[Tensor, Outputs]:
        """The loss and what else the model says.

        Args:
            pooled: key -> ``[P, embedding_dim]``, P >= B; rows B and beyond are padding.
            batch: B rows.

        Returns:
            The loss, a float32 scalar: multi-task loss + list losses + alpha x alignment + the weighted error of ids predicted
            from texts + the weighted next-item loss. Losses and alignment are zeros where the model is not in training and gradients
            are off.
        """
        if self.in_training is not None and self.training:
            return self.in_training(pooled, batch)
        return self.compute(pooled, replace(batch, domain_lengths=DomainRows(batch.domain_lengths, batch.domains)))

    def compute(self, pooled: KeyedTensor, batch: Batch) -> tuple[Tensor, Outputs]:
        """As `forward`, of a batch whose domains' rows are `DomainRows`."""
        batch = replace(batch, vectors={name: vectors.float() for name, vectors in batch.vectors.items()})
        device = batch.dense.device
        bf16 = chosen_precision(self.precision, device) == "bf16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            if self.history is None:
                return self._rank(pooled, batch, None)
            encoder, anywhere = self.represent.encoder, self.domain_embedding.mean(0) if self.ranks else self.no_domain
            items, candidates = self.history.items(pooled, batch, encoder, anywhere)
            assert batch.past is not None
            sequence = self.history.prefixed(self.history.in_domains(items, batch.past), pooled, batch)
            encode = partial(self.history.encoder, sequence)
            loss, outputs = self._rank(pooled, batch, encode) if self.ranks else self._no_tasks(batch)
            if self.history.objective is None:
                return loss, outputs
            codes = encoder.code_embeddings(self.target)
            if not self.training:
                user = self.history.objective.of_user(encode().float(), codes)
                return loss, outputs._replace(user=user, candidates=candidates)
            history = self.history

            def to_find() -> Tensor:
                return torch.cat([items.items, history.items.own(pooled, batch, encoder, anywhere)])

            found, told = self.history.objective(history.encoder, sequence, to_find, candidates, batch, codes)
            if history.preference is not None and batch.groups is not None:
                scores = self.history.objective.group_scores(encode().float(), candidates, batch, codes)
                found = history.preference(found, *scores, batch.groups)
        return loss + found, outputs._replace(next_item=told)

    def _no_tasks(self, batch: Batch) -> tuple[Tensor, Outputs]:
        nothing = batch.dense.new_zeros(len(self.layout.domains), 0)
        zero = batch.dense.new_zeros(())
        return zero, Outputs(batch.labels, nothing, nothing, zero, {}, batch.dense.new_zeros(2))

    def _rank(
        self, pooled: KeyedTensor, batch: Batch, history: Callable[[Tensor], Tensor] | None
    ) -> tuple[Tensor, Outputs]:
        lengths = batch.domain_lengths
        assert isinstance(lengths, DomainRows)
        domains = to_rows(self.domain_embedding, lengths)
        x, gates, off = self.represent(pooled, batch, domains, history)
        z = x if self.adaptive is None else self.adaptive(x, self.domain_embedding, lengths).float()
        seen = z if self.adaptive is None else normed_relu(z, self.norm)
        logits = self.head(seen, lengths.as_one() if self.shared_head else lengths)
        if self.bias_tower is not None:
            logits = self.bias_tower(logits, pooled, batch)
        list_losses = None
        if self.training or torch.is_grad_enabled():
            loss, losses, counts = multitask_loss(
                self.tasks, logits, batch, self.task_weights, self.batch_size, self.offsets
            )
            if self.list_losses is not None:
                of_lists, list_losses = self.list_losses(logits, batch)
                loss = loss + of_lists
            with torch.autocast(z.device.type, enabled=False):
                alignment = self.align(z.float(), lengths)
        else:  # one who predicts asks for no loss
            loss = alignment = logits.new_zeros(())
            losses = counts = torch.zeros_like(self.task_weights)
        outputs = Outputs(
            logits=logits.detach(),
            losses=losses,
            counts=counts,
            alignment=alignment.detach(),
            gates={owner: of.detach() if of.requires_grad else of for owner, of in gates.items()},
            next_item=loss.new_zeros(2),
            list_losses=list_losses,
        )
        loss = torch.add(loss, alignment, alpha=self.alignment_weight)
        return loss if off is None else loss + self.id_from_text / self.batch_size * off, outputs
