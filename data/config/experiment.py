"""The experiment: the one YAML file a user writes. Every field is checked where it enters."""

from typing import Annotated

from pydantic import Field, model_validator

from ..content_kinds.codes import Codes, OfVectors
from ..content_kinds.content import Embedded, EncoderSettings
from ..features.feature import Feature
from ..settings_base import Name, Strict
from .sections.bad_data import BadDataConfig
from .sections.domains import DomainConfig
from .sections.entities import OTHER_ASPECTS, TEXT, EntitiesConfig, EntityConfig, Stored
from .sections.features import AnyFeature
from .sections.model import ModelConfig
from .sections.text import TextConfig
from .sections.training import TrainingConfig

_OF_TASKS = (
    *(
        f"model.{name}"
        for name in ("head", "shared_head", "domain_width", "interaction", "id_from_text", "rates", "similarity")
    ),
    *("model.alignment", "model.alignment_weight", "training.level_rates.L2", "training.level_rates.L3"),
)
_OF_VALIDATION = ("training.validate_every", "training.patience")


class Experiment(Strict):
    """One foundrank experiment."""

    name: Name = Field(description="a short name, used in folders and reports")
    seed: int = Field(default=2026, ge=0, lt=2**63, description="of initial weights and of the order of rows")
    seeds: int = Field(
        default=1,
        ge=1,
        le=100,
        description="models to train, with `seed`, `seed` + 1 and so on, one after the other; their mean predicts",
    )
    init_from: str | None = Field(
        default=None, description="run folder to fine-tune: training starts from its tables and weights"
    )
    init_optimizer: bool = Field(
        default=False,
        description="fine-tuning: the optimizer's state goes on, too, of the rows and parameters that both runs have",
    )
    only: tuple[Name, ...] = Field(default=(), description="domains to use; all when empty")
    entities: EntitiesConfig = Field(description="user, item and, for search, query")
    context: dict[Name, AnyFeature] = Field(default_factory=dict, description="features of the event, in every domain")
    events: str | None = Field(
        default=None,
        description="Parquet files of domains that do not name their own, e.g. events/{domain}/{split}/*.parquet; "
        "a split without files is one that the domain does not have",
    )
    domains: Annotated[dict[Name, DomainConfig], Field(min_length=1)] = Field(description="the surfaces")
    bad_data: BadDataConfig = Field(default_factory=BadDataConfig, description="what happens to unusable rows")
    text: TextConfig = Field(default_factory=TextConfig, description="the language model behind `text` templates")
    model: ModelConfig = Field(default_factory=ModelConfig, description="the network")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="its training")

    @model_validator(mode="after")
    def _tasks_of_steps(self):
        known = {task for domain in self.in_use().values() for task in domain.tasks}
        reasoning = self.model.reasoning
        for task in reasoning.tasks if reasoning is not None else ():
            if task not in known:
                raise ValueError(
                    f"model.history.reasoning.tasks: no domain has a task '{task}'; there are {', '.join(sorted(known)) or 'none'}"
                )
        return self

    def without_effect(self) -> dict[str, str]:
        found: dict[str, str] = {}
        texts = [of for of, content in self.entities.embedded().items() if content.own_encoder is None]
        if not texts:
            of_texts = [name for name in TextConfig.model_fields if name not in ("vectors", "store")]
            found |= dict.fromkeys((f"text.{name}" for name in of_texts), "an entity with a `text`")
        if self.text.vectors != "llm":
            entities = self.entities.present()
            for entity, name in texts:
                place = entities[entity].place_of(name)
                at = f"entities.{entity}" if place == "text" else f"entities.{entity}.{place}"
                found[f"{at}.prompt"] = "text.vectors: llm"
        given = [
            (name, content) for name, of in self.entities.present().items() for content in of.given(in_catalog=True)
        ]
        if not self.stores_read() and not any(self.takes(*of) for of in given):
            found["model.content_conditioning"] = "a content of a catalog"
        if not any(domain.tasks for domain in self.domains.values()):
            found |= dict.fromkeys(_OF_TASKS, "a task")
        if self.init_from is None or not self.training.epochs:
            found["init_optimizer"] = "init_from, and training.epochs: 1 or more"
        if self.model.similarity is not None and (self.entities.user.history is None or not self.compared()):
            found["model.similarity"] = "a history, and a content of items that does not come with the events"
        if self.training.keep_best and not any(domain.events.validation for domain in self.domains.values()):
            found["training.keep_best"] = "a domain with events.validation"
        if not any(feature.bias for feature in self.features().values()):
            found["model.bias_dropout"] = "a feature with bias: true"
        in_use = self.in_use().values()
        if all(domain.time is None for domain in in_use):
            owners = {f"entities.{name}": entity for name, entity in self.entities.present().items()}
            places = {f"{place}.features": owner.features for place, owner in owners.items()} | {
                "context": self.context
            }
            places |= {f"domains.{name}.features": domain.features for name, domain in self.domains.items()}
            every = [*owners, *(f"{place}.{name}" for place, features in places.items() for name in features)]
            found |= dict.fromkeys((f"{place}.expire_after" for place in every), "a domain with a `time`")
        if sum(domain.users for domain in in_use) < 2:
            found["model.next_item.candidates"] = "two domains with users"
        if not self.training.keep_best:
            found |= dict.fromkeys(_OF_VALIDATION, "training.keep_best: true")
        elif "training.keep_best" in found:
            found |= dict.fromkeys(_OF_VALIDATION, found["training.keep_best"])
        return found

    def in_use(self) -> dict[str, DomainConfig]:
        """The domains that ``only`` names, or all."""
        return {name: domain for name, domain in self.domains.items() if not self.only or name in self.only}

    def looked_up(self) -> dict[str, EntityConfig]:
        """The entities whose ids the model looks up: items alone where all it does is to find the next one."""
        present = self.entities.present()
        ranks = any(domain.tasks for domain in self.domains.values())
        return present if ranks else {"item": present["item"]}

    def encoder_of(self, content: Embedded) -> EncoderSettings:
        """The settings of what makes a content's vectors."""
        return content.own_encoder or self.text

    def stored(self) -> dict[Stored, Embedded]:
        """Contents that have a store, or will once ``foundrank embed`` has run."""
        embedded = self.entities.embedded()
        return {of: content for of, content in embedded.items() if self.encoder_of(content).vectors != "none"}

    def stores_read(self) -> list[Stored]:
        """Those of them that the model reads."""
        return [of for of in self.stored() if self.model.reads(*of)]

    def coded(self) -> dict[Stored, Codes]:
        """The contents that are codes of items, of those that the model reads or finds the next item by."""
        codes = self.entities.item.codes()
        return {
            Stored("item", name): of for name, of in codes.items() if self.model.uses(name) or name == self.model.target
        }

    def inputs_of(self, content: Codes) -> list[str]:
        """The contents of items whose vectors codes are made of."""
        if not isinstance(content.codes, OfVectors):
            return []
        item = self.entities.item
        there = [of.content for of in self.stored() if of.entity == "item"] + list(item.given(in_catalog=True))
        return list(content.codes.of) or there

    def keeps_ids(self) -> bool:
        """Whether ids have tables: they have none where codes take their place."""
        return not self.coded() or self.model.uses("id")

    def aspects_in_use(self) -> list[str]:
        """The names of the aspects that are looked at: those that ``model.aspects`` names, or all, but for texts without vectors."""
        contents = self.entities.content_names() or (TEXT,)
        wanted = self.model.aspects or (OTHER_ASPECTS[0], *contents, *OTHER_ASPECTS[1:])
        embedded = self.entities.embedded()
        of_none = embedded.keys() - self.stored().keys()
        others = {
            content
            for entity, config in self.entities.present().items()
            for content in config.every_content()
            if (entity, content) not in of_none
        }
        without = {of.content for of in of_none} - others  # another entity may have vectors of that name
        own = any(of.content == TEXT and content.own_encoder is not None for of, content in embedded.items())
        if self.text.vectors == "none" and not own:
            without.add(TEXT)
        return [aspect for aspect in wanted if aspect not in without]

    def compared(self) -> list[str]:
        """The contents of items that the model reads and that past items have as well: those that do not come with the events."""
        embedded = [of.content for of in self.stores_read() if of.entity == "item"]
        return [*embedded, *(name for name in self.entities.item.given(in_catalog=True) if self.takes("item", name))]

    def takes(self, entity: str, given: str) -> bool:
        """Whether the model reads an entity's content that comes as a column: the gate none takes what is given, whatever its aspect."""
        return self.model.gate.kind == "none" or self.model.reads(entity, given)

    def features(self) -> dict[str, Feature]:
        """Every feature by name: of entities, of the context and of domains; domains may share one."""
        owners = [*self.entities.present().values(), *self.domains.values()]
        return {name: f for features in (self.context, *(o.features for o in owners)) for name, f in features.items()}
