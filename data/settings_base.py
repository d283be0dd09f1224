"""What every class of settings is made of; whoever defines a kind, defines its settings with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

MOST = 1 << 40
"""No number of rows, steps or widths is larger."""
Positive = Annotated[int, Field(ge=1, le=MOST)]
Share = Annotated[float, Field(ge=0.0, lt=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=64)]


class Strict(BaseModel):
    """Settings, checked where they enter: nothing unknown, nothing that would have to be bent into its type."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    made_by: ClassVar[tuple[Callable[..., type["Strict"]], tuple[Any, ...]] | None] = None
    """What makes this class, and from what; None for one that stands in a module, under its name."""

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and _is_number(annotation) and bool not in get_args(annotation):
            raise ValueError("Input should be a number, not true or false")
        return value

    def without_effect(self) -> dict[str, str]:
        """Settings that change nothing beside the values of others, and what would have to be for them to: ``{"negatives": "loss:
        gbce"}``. Keys are dotted where they are in a part of this section. What a user sets of them is refused, but where data is
        described: a model need not use all there is.
        """
        return {}

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (type(self).made_by or (_as_it_is, (type(self),)), self.__getstate__())


@dataclass(frozen=True)
class Seam:
    """Marks a field that holds one of several kinds: ``head: Annotated[Any, Seam("heads", by="head", default="mmoe")]``.

    Attributes:
        name: which mapping of `Kinds` has them.
        by: the setting that says which kind it is, a ``Literal`` in each kind's class.
        default: the kind where the file names none; None where it must.
        named_by_key: whether a kind may be named by its main setting alone, which has its name: ``{text: ...}`` for ``{kind: text,
            text: ...}``.
    """

    name: str
    by: str
    default: str | None = None
    named_by_key: bool = False


def _restored(made_by: tuple[Callable[..., type[Strict]], tuple[Any, ...]], state: dict[Any, Any]) -> Strict:
    make, arguments = made_by
    cls = make(*arguments)
    settings = cls.__new__(cls)
    settings.__setstate__(state)
    return settings


def _as_it_is(cls: type[Strict]) -> type[Strict]:
    return cls


def _is_number(annotation: Any) -> bool:
    return annotation in (int, float) or any(_is_number(part) for part in get_args(annotation))
