"""Kinds: the classes that a field of the experiment may be one of, and the experiment's type for given ones."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from functools import cache, partial, reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, Discriminator, Tag, create_model
from pydantic.fields import FieldInfo

from ..errors import UserError, nearest
from ..settings_base import Seam, Strict
from .experiment import Experiment
from .sections.task import Task

Section = TypeVar("Section", bound=Strict)


@dataclass(frozen=True)
class Kinds:
    """What an experiment may choose from: for each seam, name in the file -> class.

    A kind is a `Strict` class whose fields are its settings and whose methods do its work. The setting that names it is
    a ``Literal`` of its name.
    """

    alignments: Mapping[str, type[Strict]] = field(default_factory=dict)
    contents: Mapping[str, type[Strict]] = field(default_factory=dict)
    decoders: Mapping[str, type[Strict]] = field(default_factory=dict)
    features: Mapping[str, type[Strict]] = field(default_factory=dict)
    gates: Mapping[str, type[Strict]] = field(default_factory=dict)
    heads: Mapping[str, type[Strict]] = field(default_factory=dict)
    histories: Mapping[str, type[Strict]] = field(default_factory=dict)
    list_losses: Mapping[str, type[Strict]] = field(default_factory=dict)
    optimizers: Mapping[str, type[Strict]] = field(default_factory=dict)
    schedules: Mapping[str, type[Strict]] = field(default_factory=dict)
    tasks: Mapping[str, type[Task]] = field(default_factory=dict)
    tokenizers: Mapping[str, type[Strict]] = field(default_factory=dict)

    def with_(self, **additions: Mapping[str, type[Strict]]) -> "Kinds":
        """These kinds and further ones: ``KINDS.with_(heads={"mine": Mine})``.

        Raises:
            UserError: no such seam, or a name that is taken.
        """
        every = {seam.name: getattr(self, seam.name) for seam in fields(self)}
        for seam, added in additions.items():
            if seam not in every:
                raise UserError(f"kinds: {seam}", "is nothing that has kinds", nearest(seam, every))
            for name in added:
                if name in every[seam]:
                    raise UserError(f"kinds: {seam}: {name}", "is the name of another kind", "Give it its own name.")
            every[seam] = {**every[seam], **added}
        return Kinds(**every)

    def __hash__(self) -> int:
        return hash(tuple(frozenset(getattr(self, seam.name).items()) for seam in fields(self)))


def experiment_type(kinds: Kinds) -> type[Experiment]:
    """`Experiment`, with the unions of these kinds where it has seams; the same class for equal kinds.

    Raises:
        UserError: a class does not have its name as a ``Literal`` in the setting that names kinds of its seam.
    """
    return with_kinds(Experiment, kinds)


def kinds_of(experiment: Experiment) -> Kinds:
    """What an experiment that `load_experiment` has given could choose from."""
    assert experiment.made_by is not None
    return experiment.made_by[1][1]


@cache
def with_kinds(section: type[Section], kinds: Kinds) -> type[Section]:
    """A section with the unions of these kinds where it or a part of it has seams; itself where there are none."""
    changed: dict[str, Any] = {}
    for name, info in section.model_fields.items():
        annotation = whole_annotation(info)
        chosen = _with_kinds(annotation, kinds)
        if chosen != annotation:
            changed[name] = (chosen, _field(info, annotation, kinds))
    if not changed:
        return section
    made = create_model(section.__name__, __base__=section, __module__=section.__module__, **changed)
    made.__doc__, made.made_by = section.__doc__, (with_kinds, (section, kinds))
    return made


def whole_annotation(info: FieldInfo) -> Any:
    """The annotation of a field as it was written, with its metadata."""
    return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation


def seam_of(annotation: Any) -> Seam | None:
    """The seam that an annotation is marked with."""
    marks = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    return next((mark for mark in marks if isinstance(mark, Seam)), None)


def members(annotation: Any) -> dict[str, type[Strict]]:
    """Name -> class, of the kinds in the annotation of a seam."""
    seam, union = seam_of(annotation), get_args(annotation)[0]
    assert seam is not None
    classes = [get_args(part)[0] for part in get_args(union)] or [union]
    return {get_args(cls.model_fields[seam.by].annotation)[0]: cls for cls in classes}


def _with_kinds(annotation: Any, kinds: Kinds) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return with_kinds(annotation, kinds)
    if (seam := seam_of(annotation)) is not None:
        return _one_of(seam, kinds)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None or origin is Literal:
        return annotation
    if origin is Annotated:
        return Annotated[_with_kinds(arguments[0], kinds), *arguments[1:]]
    chosen = tuple(_with_kinds(argument, kinds) for argument in arguments)
    if chosen == arguments:
        return annotation
    return reduce(or_, chosen) if origin in (Union, UnionType) else origin[chosen]


def _one_of(seam: Seam, kinds: Kinds) -> Any:
    known: Mapping[str, type[Strict]] = getattr(kinds, seam.name)
    for name, cls in known.items():
        info = cls.model_fields.get(seam.by)
        if info is None or get_args(info.annotation) != (name,):
            raise UserError(
                f"kinds: {seam.name}: {name}",
                f"is {cls.__name__}, whose setting `{seam.by}` is not that name",
                f'Give the class the field {seam.by}: Literal["{name}"] = "{name}".',
            )
    classes = [with_kinds(cls, kinds) for cls in known.values()]
    union, *marks = classes
    if len(known) > 1:
        # Not by the field's name: pydantic wants no validator on that field, and `Strict` has one on all.
        union = reduce(or_, (Annotated[cls, Tag(name)] for name, cls in zip(known, classes, strict=True)))
        marks = [Discriminator(_named_by(seam.by))]
    alone = [name for name, cls in known.items() if not any(info.is_required() for info in cls.model_fields.values())]
    names: Any = Literal[tuple(alone)]
    taken = names | union if alone else union
    short = BeforeValidator(partial(written_out, seam, known), json_schema_input_type=taken)
    return Annotated[union, *marks, short, seam]


def _named_by(key: str) -> Callable[[Any], str | None]:
    def kind(value: Any) -> str | None:
        name = value.get(key) if isinstance(value, dict) else getattr(value, key, None)
        return None if name is None else str(name)

    return kind


def written_out(seam: Seam, known: Iterable[str], value: Any) -> Any:
    """A value of a seam's field in its long form: ``ple`` is short for ``{head: ple}``; ``known`` are the names of its kinds."""
    if isinstance(value, str):
        return {seam.by: value}
    if isinstance(value, dict) and seam.by not in value and seam.named_by_key:
        named = [name for name in known if name in value]
        return {seam.by: named[0], **value} if len(named) == 1 else value
    if isinstance(value, dict) and seam.by not in value and seam.default is not None:
        return {seam.by: seam.default, **value}
    return value


def _field(info: FieldInfo, annotation: Any, kinds: Kinds) -> FieldInfo:
    changed = copy(info)
    seam = seam_of(annotation)
    if seam is not None and seam.default is not None:
        changed.default = with_kinds(getattr(kinds, seam.name)[seam.default], kinds)()
    elif isinstance(info.default_factory, type) and issubclass(info.default_factory, BaseModel):
        changed.default_factory = with_kinds(info.default_factory, kinds)
    changed.metadata = []  # the annotation has it
    return changed
