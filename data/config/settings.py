"""How an experiment is run: its text encoder, its model, its training. What it is about is in `experiment`."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from ..strict import MOST, Positive, Seam, Share, Strict

Aspect = Literal["id", "text", "sparse"]
ASPECTS: tuple[str, ...] = get_args(Aspect)
Level = Literal["L0", "L1", "L2", "L3"]


class BadDataConfig(Strict):
    """What becomes of rows, files and catalog rows that cannot be used."""

    policy: Literal["fail", "skip"] = Field(
        default="fail", description="fail: stop at the first one and name it; skip: go on without them, and count them"
    )
    max_share: Share = Field(
        default=0.01, description="skip: largest share of a split or a catalog that may be bad; more stops the job"
    )

    @property
    def skips(self) -> bool:
        """Whether a job goes on without them."""
        return self.policy == "skip"


class TextConfig(Strict):
    """The frozen language model that embeds texts. What is absent is taken from the encoder's own files."""

    vectors: Literal["llm", "random", "none"] = Field(
        default="llm",
        description="llm: the encoder's; random: a fixed random vector per distinct text; none: no text aspect",
    )
    encoder: str = Field(default="minilm", description="minilm (shipped, offline), a hub id, or a local folder")
    revision: str | None = Field(default=None, description="hub id: its branch, tag or commit")
    store: str = Field(default="text_store", description="folder of the text vectors, relative to the experiment file")
    max_length: Positive | None = Field(
        default=None, description="tokens per text, the rest is cut; the encoder's own limit, at most 512, when absent"
    )
    pooling: Literal["mean", "cls", "last"] | None = Field(
        default=None,
        description="how token vectors become one; when neither given nor in the encoder's files: last for decoders, else mean",
    )
    normalize: bool | None = Field(
        default=None, description="scale each vector to length 1; true when the encoder's files do not say"
    )
    dimension: Positive | None = Field(default=None, description="width of the vectors, if less than the encoder's")
    reduction: Literal["truncate", "pca"] = Field(
        default="truncate",
        description="to `dimension`: truncate keeps the first values (for Matryoshka-trained encoders); pca fits the texts",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto", description="of the encoder; auto: bf16 on GPUs and on CPUs with bf16 instructions"
    )
    batch_tokens: Positive | None = Field(
        default=None,
        description="tokens per forward pass, padding included; 1024 on CPUs and 32768 on GPUs when absent",
    )
    trust_remote_code: bool = Field(
        default=False, description="run code that the encoder's repository brings; only for one you trust"
    )


class ReasoningConfig(Strict):
    """Latent reasoning: further passes over the newest state."""

    steps: Positive = Field(default=2, description="passes")
    learning: Literal["ensemble", "progressive"] = Field(
        default="ensemble",
        description="ensemble: all steps learn alike, their mean is used; progressive: later ones count more, the last is used",
    )


class HistoryEncoderConfig(Strict):
    """How the user's past items become one vector."""

    encoder: Literal["mean", "din", "sasrec", "bert4rec", "hstu"] = Field(
        default="mean",
        description="mean: of all; din: weighed by the item at hand; sasrec, hstu: causal self-attention; bert4rec: of both directions",
    )
    layers: Positive = Field(default=2, description="sasrec, bert4rec, hstu: blocks of attention")
    heads: Positive = Field(default=2, description="sasrec, bert4rec, hstu: heads of each; divides model.width")
    dropout: Share = Field(default=0.2, description="dropout inside the blocks and on what goes in")
    features: tuple[str, ...] = Field(
        default=(),
        description="categorical, list and dense features from the item catalog that past items and candidates have too; each costs as many lookups as ids do",
    )
    decoupled: bool = Field(default=False, description="din: ids have a second table, for attention alone (DARE)")
    reasoning: ReasoningConfig | None = Field(
        default=None, description="sasrec, hstu: latent steps behind the newest item (ReaRec); absent: none"
    )
    time_bias: bool = Field(
        default=False,
        description="attention also knows how long ago a past item was; needs entities.user.history.times",
    )


class NextItemConfig(Strict):
    """The next-item objective: from the past, find the item that comes next among all items."""

    weight: float = Field(default=1.0, gt=0, description="of its loss, beside the tasks'")
    loss: Literal["sampled_softmax", "softmax", "gbce"] = Field(
        default="sampled_softmax",
        description="against sampled items; against all of them, for small catalogs; or gSASRec's binary loss",
    )
    positions: Literal["all", "last"] = Field(
        default="last",
        description="last: the row's own item is what is to be found; all: and each past one from those before it (one row per user)",
    )
    negatives: Positive = Field(
        default=1024,
        description="items drawn per rank and step, evenly over those of training; rounded up to whole batches",
    )
    in_batch: int = Field(
        default=0,
        ge=0,
        le=MOST,
        description="items to be found by other rows that are negatives too, at most so many per rank and step",
    )
    mask_share: Share = Field(
        default=0.2, description="bert4rec: share of past items hidden in training, and to be found"
    )
    label_smoothing: Share = Field(
        default=0.0, description="softmax: share of each target that is spread evenly over all items; for thin data"
    )
    repeat: bool = Field(
        default=False, description="a past item may come again, so measures and recommendations do not leave it out"
    )
    calibration: float = Field(
        default=0.75, ge=0, le=1, description="gbce: t, how far its scores are corrected for sampling"
    )

    @model_validator(mode="after")
    def _all_are_there(self):
        if self.loss == "softmax" and self.in_batch:
            raise ValueError("in_batch adds to negatives that are drawn; loss: softmax has all items, so leave it 0")
        if self.loss != "softmax" and self.label_smoothing:
            raise ValueError(
                f"label_smoothing is spread over all items, which only loss: softmax has; it is {self.loss}"
            )
        return self


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
        default=0.1, description="share of training rows whose id aspect is hidden, so the others learn to stand alone"
    )
    id_from_text: float = Field(
        default=0.0,
        ge=0,
        description="weight of a loss that predicts the id aspect from the text; what it predicts then stands in for an id never seen or hidden; 0: none of this",
    )
    history: HistoryEncoderConfig = Field(
        default_factory=HistoryEncoderConfig, description="how the user's past items become one vector"
    )
    next_item: NextItemConfig | None = Field(
        default=None, description="learn also, or only, to find the item that comes next; absent: not"
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

    @property
    def past(self) -> bool:
        """Whether each past item is looked up by itself."""
        return self.history.encoder != "mean"


class LevelRatesConfig(Strict):
    """Factors of the learning rates, for fine-tuning; what is in a level is in docs/explanation/model.md."""

    L0: float = Field(default=1.0, gt=0, description="of tables and text projections")
    L1: float = Field(default=1.0, gt=0, description="of encoders and gates")
    L2: float = Field(default=1.0, gt=0, description="of domain-adaptive layer and experts")
    L3: float = Field(default=1.0, gt=0, description="of towers")


class TrainingConfig(Strict):
    """How the model is trained."""

    epochs: Positive = Field(default=2, description="passes over the training events")
    max_steps: Positive | None = Field(default=None, description="stop after this many steps, whatever the epochs")
    batch_size: Positive = Field(default=1024, description="rows per rank and step, all domains together")
    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate of the dense part (AdamW)")
    weight_decay: float = Field(default=1e-2, ge=0, description="AdamW weight decay of the dense part")
    sparse_learning_rate: float = Field(default=0.02, gt=0, description="peak learning rate of the tables")
    freeze: tuple[Level, ...] = Field(
        default=(),
        max_length=3,
        description="levels whose pretrained parameters stay as they are, for fine-tuning; what is new in them learns",
    )
    level_rates: LevelRatesConfig = Field(
        default_factory=LevelRatesConfig, description="factors of the learning rates, per level of parameters"
    )
    sparse_optimizer: Literal["rowwise_adagrad", "adam", "sgd"] = Field(
        default="rowwise_adagrad", description="fused into the tables' backward"
    )
    warmup_share: Share = Field(default=0.05, description="share of the steps over which learning rates rise from 0")
    final_lr_share: float = Field(
        default=0.05, ge=0, le=1, description="share of the peak left at the last step (cosine decay)"
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="largest L2 norm of the dense gradient")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="fp32",
        description="bf16: autocast the dense part; auto: bf16 on GPUs and on CPUs with bf16 instructions",
    )
    sharding: Literal["auto", "table_wise", "column_wise", "row_wise"] = Field(
        default="auto", description="auto: the planner chooses per table"
    )
    shuffle_rows: Positive = Field(default=65_536, description="rows shuffled together; memory per rank grows with it")
    prefetch_batches: Positive = Field(default=16, description="batches read ahead of the model")
    log_every: Positive = Field(default=20, description="steps between lines of metrics.jsonl")
    checkpoint_every: Positive = Field(
        default=1000, description="steps between checkpoints; the last step always has one"
    )
    stall_seconds: float = Field(
        default=600,
        gt=0,
        description="without a step for so long, the training ends and says what each rank was doing",
    )
    keep_checkpoints: Positive = Field(default=2, description="newest checkpoints kept")
    keep_best: bool = Field(
        default=True,
        description="evaluate the validation split after each epoch; the best epoch's checkpoint is kept and used",
    )
