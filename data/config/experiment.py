"""The experiment: the one YAML file a user writes. Every field is checked where it enters."""

from typing import Annotated

from pydantic import Field

from ..features.feature import Feature
from ..strict import Name, Strict
from .sections.bad_data import BadDataConfig
from .sections.domains import DomainConfig
from .sections.entities import EntitiesConfig
from .sections.features import AnyFeature
from .sections.model import ModelConfig
from .sections.text import TextConfig
from .sections.training import TrainingConfig


class Experiment(Strict):
    """One foundrank experiment."""

    name: Name = Field(description="a short name, used in folders and reports")
    seed: int = Field(default=2026, ge=0, lt=2**63, description="of initial weights and of the order of rows")
    init_from: str | None = Field(
        default=None, description="run folder to fine-tune: training starts from its tables and weights"
    )
    only: tuple[Name, ...] = Field(default=(), description="domains to use; all when empty")
    entities: EntitiesConfig = Field(description="user, item and, for search, query")
    context: dict[Name, AnyFeature] = Field(default_factory=dict, description="features of the event, in every domain")
    domains: Annotated[dict[Name, DomainConfig], Field(min_length=1)] = Field(description="the surfaces")
    bad_data: BadDataConfig = Field(default_factory=BadDataConfig, description="what happens to unusable rows")
    text: TextConfig = Field(default_factory=TextConfig, description="the language model behind `text` templates")
    model: ModelConfig = Field(default_factory=ModelConfig, description="the network")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="its training")

    def features(self) -> dict[str, Feature]:
        """Every feature by name: of entities, of the context and of domains; domains may share one."""
        owners = [*self.entities.present().values(), *self.domains.values()]
        return {name: f for features in (self.context, *(o.features for o in owners)) for name, f in features.items()}
