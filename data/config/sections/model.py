"""The network."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...settings_base import MOST, Name, Positive, Seam, Share, Strict
from .entities import OTHER_ASPECTS
from .next_item import ITEM, NextItemConfig
from .similarity import SimilarityConfig


class ModelConfig(Strict):
    """Widths and variants of the S&R multi-domain foundation."""

    aspects: tuple[Name, ...] = Field(
        default=(), description="views of each entity in use: id, sparse, and contents by name; all when empty"
    )
    embedding_dim: Positive = Field(default=32, description="width of id and sparse embeddings; a multiple of 4")
    width: Positive = Field(default=64, description="D: width of every aspect and entity vector")
    gate: Annotated[Any, Seam("gates", by="kind", default="domain_gate")] = Field(
        default=None, description="how aspects are fused"
    )
    interaction: bool = Field(default=True, description="add elementwise products of item with user, query and history")
    id_dropout: Share = Field(
        default=0.1,
        description="share of training rows whose id aspect is hidden, so that the other aspects learn to do without it",
    )
    hide_rare_items: float = Field(
        default=0.0,
        ge=0,
        le=MOST,
        description="k: the id of an item that training saw n times is hidden with a probability of k / (k + n) besides; 0: no more than others",
    )
    unknown_id: Literal["learned", "masked"] = Field(
        default="masked",
        description="what stands in for an unseen or hidden id: a learned vector, or nothing, so that its weight goes to other aspects",
    )
    bias_dropout: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="share of training rows whose features with `bias` are hidden, as they are in all rows at scoring",
    )
    content_conditioning: Literal["whiten", "center", "none"] = Field(
        default="whiten",
        description="what vectors of contents go through first, fitted on the catalogs as training finds them: whiten (their mean "
        "subtracted, all directions spread alike), center (their mean subtracted), or none",
    )
    id_from_text: float = Field(
        default=0.0,
        ge=0,
        description="weight of a loss that predicts the id aspect from the text; the prediction stands in for an unseen or hidden id; 0: off",
    )
    rates: bool = Field(
        default=False,
        description="whether rates and counts of ids and categories in training's labels are inputs; a row of training knows of those before it alone, or where events have no time, of those of other parts",
    )
    history: Annotated[Any, Seam("histories", by="encoder", default="mean")] = Field(
        default=None, description="how the user's past items become one vector"
    )
    next_item: NextItemConfig | None = Field(
        default=None, description="train on predicting the next item, alone or beside the tasks; absent: off"
    )
    similarity: SimilarityConfig | None = Field(
        default=None,
        description="how alike the item is to each of the user's past items, by their contents, as inputs; absent: off",
    )
    domain_width: int = Field(
        default=128, ge=0, le=MOST, description="width of the domain-adaptive layer's output; 0: no such layer"
    )
    alignment: Annotated[Any, Seam("alignments", by="kind", default="js")] = Field(
        default=None, description="penalty on the difference between the domains' distributions"
    )
    alignment_weight: float = Field(default=0.01, ge=0, description="alpha: weight of that penalty")
    head: Annotated[Any, Seam("heads", by="head", default="mmoe")] = Field(default=None, description="multi-task part")
    shared_head: bool = Field(
        default=False, description="one head for all domains: gates and towers per task, not per (domain, task)"
    )

    @model_validator(mode="after")
    def _fbgemm_width(self):
        if self.embedding_dim % 4:
            raise ValueError(f"embedding_dim is {self.embedding_dim}: FBGEMM needs a multiple of 4")
        return self

    @model_validator(mode="after")
    def _sequences(self):
        encoder, heads = self.history.encoder, getattr(self.history, "heads", 1)
        if self.width % heads:
            raise ValueError(f"width {self.width} cannot be divided by history.heads {heads}")
        if self.next_item is not None and not getattr(self.history, "finds_next", False):
            raise ValueError(f"next_item needs history.encoder sasrec, bert4rec or hstu; it is {encoder}")
        if self.target is not None:
            assert self.next_item is not None
            if self.width % getattr(self.next_item.decoder, "heads", 1):
                raise ValueError(f"width {self.width} cannot be divided by next_item.decoder.heads")
            if self.reasoning is not None:
                raise ValueError("history.reasoning learns from vectors of items, and next_item.target is codes")
        widths = () if self.next_item is None else self.next_item.widths
        if widths and widths[-1] != self.width:
            raise ValueError(
                f"next_item.widths end with {widths[-1]}, and model.width, which they lead to, is {self.width}"
            )
        if encoder != "mean" and self.gate.kind == "none":
            raise ValueError(f"gate: none has no vectors of past items, which history.encoder {encoder} needs")
        return self

    def without_effect(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.alignment.kind == "none":
            found["alignment_weight"] = "alignment: js or mmd"
        chosen = set(self.aspects)
        if self.id_from_text and chosen and not ("id" in chosen and chosen - set(OTHER_ASPECTS)):
            found["id_from_text"] = "the aspect id and a content"
        of_ids = {"unknown_id", *(name for name in ("id_dropout", "hide_rare_items") if getattr(self, name))}
        if chosen and ("id" not in chosen or len(chosen) == 1):
            found |= dict.fromkeys(of_ids, "the aspect id and another")
        objective = self.next_item
        if objective is not None and (objective.positions != "all" or self.history.encoder != "bert4rec"):
            found["next_item.mask_share"] = "history.encoder: bert4rec and positions: all"
        if objective is None and self.reasoning is not None and self.reasoning.tasks:
            found["history.reasoning.tasks"] = "next_item"
        if self.gate.kind == "none":  # everything side by side, whatever its aspect
            given = {name for name in ("interaction", "id_from_text") if getattr(self, name)}
            found |= dict.fromkeys(given | of_ids, "another gate than none")
        return found

    def uses(self, aspect: str) -> bool:
        """Whether an aspect is looked at, where an entity has it."""
        return not self.aspects or aspect in self.aspects

    def reads(self, entity: str, content: str) -> bool:
        """Whether the vectors of an entity's content are read: as an aspect, or, of the user, as a place of a prefix."""
        return self.uses(content) or (entity == "user" and content in self.prefix)

    def similarity_columns(self, content: str) -> tuple[str, ...]:
        """Names of the numbers that say how alike the item and the past ones are by a content."""
        return () if self.similarity is None else self.similarity.columns(content)

    @property
    def target(self) -> str | None:
        """The content by whose codes the next item is found; None: it is found by its vector, or not sought."""
        return None if self.next_item is None or self.next_item.target == ITEM else self.next_item.target

    @property
    def past(self) -> bool:
        """Whether each past item is looked up by itself."""
        return self.history.encoder != "mean"

    @property
    def past_features(self) -> tuple[str, ...]:
        """Features that each past item has too."""
        return getattr(self.history, "features", ())

    @property
    def reasoning(self) -> Any:
        """The settings of the encoder's latent steps; None where it has none."""
        return getattr(self.history, "reasoning", None)

    @property
    def prefix(self) -> tuple[str, ...]:
        """What stands before the oldest past item: ``user``, ``query``, ``context``, contents of the user."""
        return getattr(self.history, "prefix", ())

    @property
    def past_times(self) -> bool:
        """Whether the times of past items are looked at."""
        return getattr(self.history, "time_bias", False)

    @property
    def attention_table(self) -> bool:
        """Whether ids have a second table, for attention alone."""
        return getattr(self.history, "decoupled", False)
