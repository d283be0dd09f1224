"""How the model is trained."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from ...settings_base import MOST, Positive, Seam, Strict

Level = Literal["L0", "L1", "L2", "L3"]
_OF_STEPS = (
    *("max_steps", "learning_rate", "optimizer", "sparse_learning_rate", "table_decay", "schedule", "gradient_clip"),
    *("shuffle_rows", "checkpoint_every", "log_every", "validate_every", "patience"),
)


class LevelRatesConfig(Strict):
    """Factors of the learning rates, for fine-tuning; what is in a level is in docs/explanation/model.md."""

    L0: float = Field(default=1.0, gt=0, description="of tables and text projections")
    L1: float = Field(default=1.0, gt=0, description="of encoders and gates")
    L2: float = Field(default=1.0, gt=0, description="of domain-adaptive layer and experts")
    L3: float = Field(default=1.0, gt=0, description="of towers")


class TrainingConfig(Strict):
    """How the model is trained."""

    epochs: int = Field(
        default=2,
        ge=0,
        le=MOST,
        description="passes over the training events; 0: with init_from, the run that it names as it is, for data it has not seen",
    )
    max_steps: Positive | None = Field(default=None, description="stop after this many steps, whatever `epochs` says")
    batch_size: Positive = Field(
        default=1024,
        description="rows per rank and step, all domains together; where it is left out, less for fewer than 50,000 rows of training",
    )
    learning_rate: float = Field(default=2e-3, gt=0, description="peak learning rate of the dense part")
    optimizer: Annotated[Any, Seam("optimizers", by="kind", default="adamw")] = Field(
        default=None, description="of the dense part"
    )
    sparse_learning_rate: float = Field(default=0.02, gt=0, description="peak learning rate of the tables")
    freeze: tuple[Level, ...] = Field(
        default=(),
        max_length=3,
        description="fine-tuning: levels whose pretrained parameters are kept fixed; new parameters in them still learn",
    )
    level_rates: LevelRatesConfig = Field(
        default_factory=LevelRatesConfig, description="factors of the learning rates, per level of parameters"
    )
    table_decay: float = Field(
        default=0.0,
        ge=0,
        description="share of a table's row, times its learning rate, that is taken off it in each step that looks it up",
    )
    sparse_optimizer: Literal["rowwise_adagrad", "adam", "sgd"] = Field(
        default="rowwise_adagrad", description="fused into the tables' backward"
    )
    table_precision: Literal["fp32", "fp16"] = Field(
        default="fp32",
        description="fp16: embedding tables take half the memory; what an update leaves is rounded up or down at random",
    )
    schedule: Annotated[Any, Seam("schedules", by="kind", default="cosine")] = Field(
        default=None, description="of all learning rates, over the whole training"
    )
    gradient_clip: float = Field(default=1.0, gt=0, description="largest L2 norm of the dense gradient")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="fp32",
        description="bf16: autocast the dense part; auto: bf16 on GPUs and on CPUs with bf16 instructions",
    )
    compile: bool = Field(
        default=False,
        description="GPUs: compile the dense part of a step into one graph, which is recorded once and replayed; not for histories item by item and list losses",
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
        description="after this time without a step, the training ends and says what each rank was doing",
    )
    keep_checkpoints: Positive = Field(default=2, description="newest checkpoints kept")
    keep_best: bool = Field(
        default=True,
        description="evaluate the validation split after each epoch; the best epoch's checkpoint is kept and used",
    )
    validate_every: Positive | None = Field(
        default=None, description="evaluate it, and write a checkpoint, also after every so many steps of an epoch"
    )
    patience: Positive | None = Field(
        default=None,
        description="end the training after so many validations in a row that are no better than the best before; the schedule is over all `epochs` all the same",
    )

    @model_validator(mode="after")
    def _frozen_rows_stay(self):
        if self.table_decay and "L0" in self.freeze:
            raise ValueError(
                f"table_decay {self.table_decay:g} would shrink the rows that freeze keeps fixed in L0; set it to 0"
            )
        return self

    @model_validator(mode="after")
    def _rounded_by_one_optimizer(self):
        if self.half_tables and self.sparse_optimizer != "rowwise_adagrad":
            raise ValueError(
                f"table_precision fp16 goes with sparse_optimizer rowwise_adagrad, and it is {self.sparse_optimizer}"
            )
        return self

    @property
    def half_tables(self) -> bool:
        """Whether embedding tables are float16."""
        return self.table_precision == "fp16"

    @property
    def table_bytes(self) -> int:
        """Of a number in an embedding table."""
        return 2 if self.half_tables else 4

    def without_effect(self) -> dict[str, str]:
        if not self.epochs:
            return dict.fromkeys(_OF_STEPS, "epochs: 1 or more")
        decays = self.sparse_optimizer == "rowwise_adagrad"
        return {} if decays else {"table_decay": "sparse_optimizer: rowwise_adagrad"}

    @property
    def says_batch_size(self) -> bool:
        """Whether it was written, and not left to the size of the data."""
        return "batch_size" in self.model_fields_set
