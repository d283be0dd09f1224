"""The network."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from ...strict import MOST, Positive, Seam, Share, Strict
from .history_encoder import HistoryEncoderConfig
from .next_item import NextItemConfig

Aspect = Literal["id", "text", "sparse"]
ASPECTS: tuple[str, ...] = get_args(Aspect)


class ModelConfig(Strict):
    """Widths and variants of the S&R multi-domain foundation."""

    aspects: tuple[Aspect, ...] = Field(
        default=("id", "text", "sparse"), min_length=1, description="views of each entity in use"
    )
    embedding_dim: Positive = Field(default=32, description="width of id and sparse embeddings; a multiple of 4")
    width: Positive = Field(default=64, description="D: width of every aspect and entity vector")
    gate: Literal["mean", "mean_gate", "cls_gate", "domain_gate", "domain_count_gate", "none"] = Field(
        default="domain_gate",
        description="how aspects are fused; none: no aspects, all lookups, numbers and vectors side by side",
    )
    interaction: bool = Field(default=True, description="add elementwise products of item with user, query and history")
    id_dropout: Share = Field(
        default=0.1,
        description="share of training rows whose id aspect is hidden, so that the other aspects learn to do without it",
    )
    id_from_text: float = Field(
        default=0.0,
        ge=0,
        description="weight of a loss that predicts the id aspect from the text; the prediction stands in for an unseen or hidden id; 0: off",
    )
    history: HistoryEncoderConfig = Field(
        default_factory=HistoryEncoderConfig, description="how the user's past items become one vector"
    )
    next_item: NextItemConfig | None = Field(
        default=None, description="train on predicting the next item, alone or beside the tasks; absent: off"
    )
    domain_width: int = Field(
        default=128, ge=0, le=MOST, description="width of the domain-adaptive layer's output; 0: no such layer"
    )
    alignment: Literal["js", "mmd", "none"] = Field(
        default="js", description="penalty on the difference between the domains' distributions"
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
        encoder = self.history.encoder
        if encoder in ("sasrec", "bert4rec", "hstu") and self.width % self.history.heads:
            raise ValueError(f"width {self.width} cannot be divided by history.heads {self.history.heads}")
        if self.next_item is not None and encoder not in ("sasrec", "bert4rec", "hstu"):
            raise ValueError(f"next_item needs history.encoder sasrec, bert4rec or hstu; it is {encoder}")
        if self.history.reasoning is not None and encoder not in ("sasrec", "hstu"):
            raise ValueError(f"history.reasoning is for sasrec and hstu; history.encoder is {encoder}")
        if self.history.decoupled and encoder != "din":
            raise ValueError(f"history.decoupled is for din; history.encoder is {encoder}")
        for option in ("time_bias", "features"):
            if getattr(self.history, option) and encoder == "mean":
                raise ValueError(f"history.{option} is for encoders of sequences; history.encoder is mean")
        if encoder != "mean" and self.gate == "none":
            raise ValueError(f"gate: none has no vectors of past items, which history.encoder {encoder} needs")
        return self

    def without_effect(self) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.alignment == "none":
            found["alignment_weight"] = "alignment: js or mmd"
        if self.id_from_text and not {"id", "text"} <= set(self.aspects):
            found["id_from_text"] = "the aspects id and text"
        if self.id_dropout and ("id" not in self.aspects or len(self.aspects) == 1):
            found["id_dropout"] = "the aspect id and another"
        objective = self.next_item
        if objective is not None and (objective.positions != "all" or self.history.encoder != "bert4rec"):
            found["next_item.mask_share"] = "history.encoder: bert4rec and positions: all"
        if self.gate == "none":  # everything side by side, whatever its aspect
            given = {name for name in ("interaction", "id_dropout", "id_from_text") if getattr(self, name)}
            found |= dict.fromkeys(given, "another gate than none")
        return found

    @property
    def past(self) -> bool:
        """Whether each past item is looked up by itself."""
        return self.history.encoder != "mean"
