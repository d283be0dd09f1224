"""The layout of a batch: which columns and keys it has, in which order, and what they belong to.

Everything the model needs to know about the data, as names and sizes; no data in it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..config.experiment import Experiment
from ..config.sections.entities import Stored
from ..config.sections.task import Scale, Task
from ..features.feature import Inputs
from .batch_keys import (
    ATTENTION_TABLE,
    BIAS,
    CONTEXT,
    HISTORY,
    RATES,
    SIMILARITY,
    attention_key,
    candidate_key,
    content_key,
    id_key,
    past_feature_key,
    past_key,
)
from .sizes import candidate_keys, content_sizes_of


@dataclass(frozen=True)
class Layout:
    """Names and sizes of what is in a batch.

    Attributes:
        entities: entities whose ids are looked up, in the order user, query, item; columns of ``Batch.id_counts``.
        keys: keys of ``Batch.sparse``, in order: those with at most one id per row, the lists, past items, candidates, then
            again past items and candidates for each of their features.
        singles: how many of ``keys`` hold at most one id per row.
        lists: those of ``keys`` that hold lists, which are pooled.
        weighted_lists: those of ``lists`` whose ids have weights.
        ids: whether ids are looked up; where they are not, as codes are in their place, tables of ids have the row of the unknown id alone,
            and neither past items nor candidates have keys for theirs.
        item_rows: how many rows items have, the unknown one included, whether or not there is such a table.
        past: L, how many past items of a row have a key of their own; 0 where the history is pooled.
        finds_next: whether the next item is sought.
        candidates: how many keys hold items that belong to no row.
        past_features: keys of the sparse features of items that past items and candidates have too.
        past_dense: columns of ``Batch.dense`` that they have too.
        past_vectors: names in ``vectors`` of the vector features that they have too.
        past_contents: names in ``vectors`` of the contents that they have: those that do not come with the events.
        past_domains: whether it is told in which domain each past item was.
        attention: whether past items and the row's own have keys of a second table, behind all others.
        table_of: key -> embedding table; past items and candidates share the item table, attention has one of its own.
        tables: table -> rows, row 0 being the unknown id.
        dense: feature names of the columns of ``Batch.dense``; those of ``similarity`` come first, rates behind all others, and those of
            ``bias`` last.
        rates_in_folds: whether rates are those of other folds, where hardly a row of training is without a known label of its ids.
        vectors: name -> size, of every entry of ``Batch.vectors``.
        sparse_of: owner (entity or ``context``; ``bias`` and ``rates``, where there are such) -> its sparse keys.
        dense_of: owner, or ``similarity``, where that is in the model -> its columns in ``Batch.dense``.
        vectors_of: owner -> its vector features (names in ``vectors``), contents excluded.
        contents_of: owner (entity or ``history``) -> content -> name of its vectors in ``vectors``; owners without any are left out.
            The history has the means of what is known of items whatever the events say.
        codes: name in ``vectors`` of codes -> how many values each of their M levels has.
        encoder_of: name in ``vectors`` -> what embedded that content, or those it is the mean of; others are absent.
        history: whether rows have a history.
        domains: domain names; ``Batch.domains`` holds positions in it.
        search: per domain, whether it is a search domain.
        tasks: names of the union of all domains' tasks; columns of ``Batch.labels``.
        task_kinds: of each of ``tasks``, as the first domain that has it sets it.
        task_scales: of the labels of each of ``tasks``.
        outputs: names of the numbers that the model gives for a row, of one task after the other: the task's own, and
            ``TASK/OUTPUT`` for more than one; behind them those of list losses. Columns of ``Outputs.logits``.
        output_kinds: what each of ``outputs`` is, whatever its task is called: ``Binary/logit``.
        task_parents: the position of the task that each of ``tasks`` is given, as of `Task.parent`; None: it stands for itself.
        output_tasks: which of ``tasks`` each of ``outputs`` belongs to.
        output_offsets: [domains][outputs], what is added in training, as of `Task.offset`.
        task_weights: [domains][tasks], the loss weight; 0 where a domain lacks the task.
        weighted: whether labels have weights, ``Batch.weights``.
        list_losses: [domains][tasks], the list loss; None where there is none.
    """

    entities: tuple[str, ...]
    keys: tuple[str, ...]
    singles: int
    lists: tuple[str, ...]
    weighted_lists: tuple[str, ...]
    ids: bool
    item_rows: int
    past: int
    finds_next: bool
    candidates: int
    past_features: tuple[str, ...]
    past_dense: tuple[int, ...]
    past_vectors: tuple[str, ...]
    past_contents: tuple[str, ...]
    past_domains: bool
    attention: bool
    table_of: Mapping[str, str]
    tables: Mapping[str, int]
    dense: tuple[str, ...]
    rates_in_folds: bool
    vectors: Mapping[str, int]
    sparse_of: Mapping[str, tuple[str, ...]]
    dense_of: Mapping[str, tuple[int, ...]]
    vectors_of: Mapping[str, tuple[str, ...]]
    contents_of: Mapping[str, Mapping[str, str]]
    codes: Mapping[str, tuple[int, ...]]
    encoder_of: Mapping[str, str]
    history: bool
    domains: tuple[str, ...]
    search: tuple[bool, ...]
    tasks: tuple[str, ...]
    task_kinds: tuple[Task, ...]
    task_scales: tuple[Scale, ...]
    outputs: tuple[str, ...]
    output_kinds: tuple[str, ...]
    task_parents: tuple[int | None, ...]
    output_tasks: tuple[int, ...]
    output_offsets: tuple[tuple[float, ...], ...]
    task_weights: tuple[tuple[float, ...], ...]
    weighted: bool
    list_losses: tuple[tuple[Any, ...], ...]

    @property
    def rates(self) -> slice:
        """Columns of ``Batch.dense`` that are rates."""
        columns = self.dense_of.get(RATES, ())
        return slice(columns[0], columns[-1] + 1) if columns else slice(0)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and for comparing two layouts."""
        return asdict(self)


def make_layout(
    experiment: Experiment,
    tables: Mapping[str, int],
    content_sizes: Mapping[str, int],
    scales: Mapping[str, Scale] | None = None,
    rates: Iterable[str] = (),
    rates_in_folds: bool = False,
) -> Layout:
    """The layout of an experiment's batches.

    Args:
        experiment: the experiment.
        tables: table -> rows, from the statistics.
        content_sizes: `Stored.name` of each content store that the model reads -> width of its vectors.
        scales: task -> the scale of its labels, of those that need one, from the statistics.
        rates: names of the columns of rates.
        rates_in_folds: as of `Layout`.
    """
    entities = experiment.entities.present()
    user = experiment.entities.user
    looked_up = experiment.looked_up()
    singles, lists, shared, of_features = [id_key(e) for e in looked_up], [], [], []
    table_of = {id_key(e): id_key(e) for e in looked_up}
    past = user.history.max_length if user.history is not None and experiment.model.past else 0
    candidates = candidate_keys(experiment, tables)
    if past:
        shared = [past_key(back) for back in range(past)] + [candidate_key(place) for place in range(candidates)]
    elif user.history is not None:
        lists.append(HISTORY)
    with_bias = [BIAS] if any(feature.bias for feature in experiment.features().values()) else []
    owners = (*entities, CONTEXT, *with_bias, *([RATES] if rates else []))
    sparse_of: dict[str, list[str]] = {owner: [] for owner in owners}
    dense_of: dict[str, list[int]] = {owner: [] for owner in owners}
    vectors_of: dict[str, list[str]] = {owner: [] for owner in owners}
    weighted_lists: list[str] = []
    sizes = content_sizes_of(experiment, content_sizes)
    compared = [name for name in experiment.compared() if Stored("item", name) in sizes]
    dense = [column for name in compared for column in experiment.model.similarity_columns(name)]
    dense_of |= {SIMILARITY: list(range(len(dense)))} if dense else {}
    vectors: dict[str, int] = {}

    owned = [(owner, name, f) for owner, entity in entities.items() for name, f in entity.features.items()]
    owned += [(CONTEXT, name, f) for name, f in experiment.context.items()]
    owned += [
        (f.entity or CONTEXT, name, f) for domain in experiment.domains.values() for name, f in domain.features.items()
    ]
    seen = set()
    described = [(BIAS if f.bias else owner, name, f.inputs(name)) for owner, name, f in owned]
    of_rates = [(RATES, "", Inputs(dense=tuple(rates)))] if rates else []
    # Features with `bias` come last.
    every = [*(of for of in described if of[0] != BIAS), *of_rates, *(of for of in described if of[0] == BIAS)]
    for owner, name, inputs in every:
        if name in seen:
            continue  # domains may share a feature
        seen.add(name)
        singles += inputs.singles
        lists += inputs.lists
        weighted_lists += inputs.weighted
        table_of |= {key: key for key in inputs.keys}
        sparse_of[owner] += inputs.keys
        dense_of[owner] += range(len(dense), len(dense) + len(inputs.dense))
        dense += inputs.dense
        vectors |= inputs.vectors
        vectors_of[owner] += inputs.vectors
    item_rows = tables.get(id_key("item"), 0)
    if not experiment.keeps_ids():  # all that is looked up is the unknown id
        tables = {**tables, **dict.fromkeys((id_key(name) for name in looked_up), 1)}
    contents_of: dict[str, dict[str, str]] = {}
    codes = {content_key(*of): content.codes.sizes for of, content in experiment.coded().items()}
    for of, size in sizes.items():
        contents_of.setdefault(of.entity, {})[of.content] = content_key(*of)
        vectors[content_key(*of)] = size
    of_past = [entities["item"].features[name].inputs(name) for name in experiment.model.past_features if past]
    past_features = tuple(key for key in sparse_of["item"] if any(key in inputs.keys for inputs in of_past))
    for key in past_features:
        shared_of = [past_feature_key(key, each) for each in shared]
        table_of |= dict.fromkeys(shared_of, key)
        of_features += shared_of
    decoupled = experiment.model.attention_table and past > 0
    attention = [attention_key(back) for back in (*range(past), None)] if decoupled else []
    if attention:
        tables = {**tables, ATTENTION_TABLE: tables.get(id_key("item"), 0)}
        table_of |= dict.fromkeys(attention, ATTENTION_TABLE)
    shared = shared if experiment.keeps_ids() else []
    table_of |= dict.fromkeys([*shared, *([HISTORY] if HISTORY in lists else [])], id_key("item"))
    tasks = tuple(dict.fromkeys(t for d in experiment.domains.values() for t in d.tasks))
    encoder_of = {
        content_key(*of): encoder
        for of, content in experiment.stored().items()
        if of in sizes and (encoder := experiment.encoder_of(content).encoder) is not None
    }
    of_events = entities["item"].given(in_catalog=False)
    of_items = [of for of in sizes if of.entity == "item" and of.content not in of_events]
    if HISTORY in lists and tasks:  # without tasks nothing looks at the mean vectors
        for of in (of for of in of_items if content_key(*of) not in codes):
            key = content_key(HISTORY, of.content)
            contents_of.setdefault(HISTORY, {})[of.content] = key
            vectors[key] = sizes[of]
            if content_key(*of) in encoder_of:
                encoder_of[key] = encoder_of[content_key(*of)]

    kinds = tuple(next(d.tasks[t] for d in experiment.domains.values() if t in d.tasks) for t in tasks)
    outputs = [
        (at, f"{tasks[at]}/{output}" if place else tasks[at], f"{type(kind).__name__}/{output}")
        for at, kind in enumerate(kinds)
        for place, output in enumerate(kind.outputs)
    ]
    list_losses = tuple(
        tuple(d.tasks[t].list_loss if t in d.tasks else None for t in tasks) for d in experiment.domains.values()
    )
    for at, of_task in enumerate(zip(*list_losses, strict=True)):  # behind all tasks' own
        further = dict.fromkeys(output for loss in of_task if loss is not None for output in loss.outputs)
        outputs += [(at, f"{tasks[at]}/{output}", f"list/{output}") for output in further]
    weights = tuple(
        tuple(d.tasks[t].weight if t in d.tasks else 0.0 for t in tasks) for d in experiment.domains.values()
    )
    return Layout(
        entities=tuple(looked_up),
        keys=(*singles, *lists, *shared, *of_features, *attention),
        singles=len(singles),
        lists=tuple(lists),
        weighted_lists=tuple(weighted_lists),
        ids=experiment.keeps_ids(),
        item_rows=item_rows,
        past=past,
        finds_next=experiment.model.next_item is not None,
        candidates=candidates,
        past_features=past_features,
        past_dense=tuple(
            column for column in dense_of["item"] if any(dense[column] in inputs.dense for inputs in of_past)
        ),
        past_vectors=tuple(name for inputs in of_past for name in inputs.vectors),
        past_contents=tuple(content_key(*of) for of in of_items) if past else (),
        past_domains=past > 0 and user.history is not None and user.history.domains is not None,
        attention=decoupled,
        table_of=table_of,
        tables={table: rows for table, rows in tables.items() if table in table_of.values()},
        dense=tuple(dense),
        rates_in_folds=rates_in_folds,
        vectors=vectors,
        sparse_of={k: tuple(v) for k, v in sparse_of.items()},
        dense_of={k: tuple(v) for k, v in dense_of.items()},
        vectors_of={k: tuple(v) for k, v in vectors_of.items()},
        contents_of=contents_of,
        codes=codes,
        encoder_of=encoder_of,
        history=user.history is not None,
        domains=tuple(experiment.domains),
        search=tuple(d.kind == "search" for d in experiment.domains.values()),
        tasks=tasks,
        task_kinds=kinds,
        task_scales=tuple((scales or {}).get(task, Scale()) for task in tasks),
        outputs=tuple(name for _, name, _ in outputs),
        output_kinds=tuple(kind for _, _, kind in outputs),
        task_parents=tuple(None if kind.parent is None else tasks.index(kind.parent) for kind in kinds),
        output_tasks=tuple(at for at, _, _ in outputs),
        output_offsets=tuple(
            tuple(d.tasks[tasks[at]].offset if tasks[at] in d.tasks else 0.0 for at, _, _ in outputs)
            for d in experiment.domains.values()
        ),
        task_weights=weights,
        weighted=any(domain.weight_of(task) for domain in experiment.domains.values() for task in domain.tasks),
        list_losses=list_losses,
    )
