"""Tasks given others (ESMM), and negatives that are kept in part: which logits are of what, in losses and in scores."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from foundrank.data.config.load import load_experiment
from foundrank.data.config.sections.domains import DomainConfig
from foundrank.data.errors import UserError
from foundrank.data.schema.labels import read_labels
from foundrank.data.schema.layout import make_layout
from foundrank.model.kinds import KINDS
from foundrank.model.tasks.binary import Binary
from foundrank.model.tasks.multitask_loss import multitask_loss
from foundrank.model.tasks.task_columns import TaskColumns
from tests.tiny_world import experiment_dict
from tests.toy_task import Amount

CLICK, BUY = Binary(label="click"), Binary(label="buy", given="click")
CART, ORDER = Binary(label="cart", given="click"), Binary(label="order", given="cart")
CHAIN = TaskColumns((CLICK, BUY), parents=(None, 0))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def test_the_score_is_the_product_of_the_chain_wherever_its_tasks_stand():
    logits = torch.randn(50, 4) * 3
    order, click, other, cart = sigmoid(logits.numpy()).T
    tasks = TaskColumns((ORDER, CLICK, Binary(label="like"), CART), parents=(3, None, None, 1))
    wanted = np.stack([click * cart * order, click, other, click * cart], 1)
    np.testing.assert_allclose(tasks.scores(logits).numpy(), wanted, rtol=1e-5)
    # By a task's own outputs, not by its place among the tasks.
    wide = TaskColumns((Amount(label="spent"), CLICK, BUY), parents=(None, None, 1))
    scores = wide.scores(logits[:, :3]).numpy()
    np.testing.assert_allclose(scores[:, 2], sigmoid(logits[:, 1]) * sigmoid(logits[:, 2]), rtol=1e-5)
    np.testing.assert_allclose(scores[:, 0], logits[:, 0])


def test_without_a_chain_logits_are_what_they_were():
    logits = torch.randn(4, 2)
    assert TaskColumns((CLICK, Binary(label="like"))).joint(logits) is logits


@pytest.mark.parametrize(("first", "second"), [(80.0, 90.0), (-80.0, -90.0), (80.0, -90.0), (-80.0, 90.0), (0.0, 30.0)])
def test_losses_and_gradients_are_right_where_probabilities_round_to_0_or_1(first, second):
    logits = torch.tensor([[first, second]] * 2, requires_grad=True)
    losses = CHAIN.losses(logits, torch.tensor([[1.0, 1.0], [1.0, 0.0]]))[:, 1]
    # log p and log(1 - p), in ways that lose nothing: 1 - ab = (1 - a) + a (1 - b)
    log_p = -math.log1p(math.exp(-first)) - math.log1p(math.exp(-second))
    log_not = math.log(1 / (1 + math.exp(first)) + 1 / (1 + math.exp(-first)) / (1 + math.exp(second)))
    np.testing.assert_allclose(losses.detach().numpy(), [-log_p, -log_not], rtol=1e-5, atol=1e-30)
    losses.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_logit_that_is_no_number_gives_no_score():
    logits = torch.tensor([[math.inf, 0.0], [0.0, math.inf], [-math.inf, 1.0], [1.0, math.nan], [1.0, 1.0]])
    assert CHAIN.scores(logits).isnan().tolist() == [
        [True, True],
        [False, True],
        [True, True],
        [False, True],
        [False] * 2,
    ]


def labels(tasks: dict[str, Binary], task: str, **columns) -> list[float | None]:
    domain = DomainConfig.model_validate({"kind": "search", "events": {"train": "x"}}).model_copy(
        update={"tasks": tasks}
    )
    return [None if math.isnan(v) else v for v in read_labels(domain, task, pa.table(columns))]


def test_labels_are_of_all_events_of_the_chain():
    columns = {
        "click": [0, 0, 0, 1, 1, 1, None, None, 1],
        "cart": [None, 0, 1, 0, 1, None, 1, 0, 1],
        "order": [None, 1, None, None, 0, 1, 1, None, 1],
    }
    tasks = {"click": CLICK, "cart": CART, "order": ORDER}
    assert labels(tasks, "click", **columns) == columns["click"]
    assert labels(tasks, "cart", **columns) == [0, 0, 0, 0, 1, None, None, None, 1]
    assert labels(tasks, "order", **columns) == [0, 0, 0, 0, 0, None, None, None, 1]


def world(**tasks) -> dict:
    raw = experiment_dict()
    raw["domains"]["find"]["tasks"] |= tasks
    return raw


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        (
            {"buy": {"label": "buy", "given": "clik"}},
            "tasks.buy.given: 'clik' is not a task of this domain. Did you mean 'click'?",
        ),
        ({"buy": {"label": "buy", "given": "like"}}, "tasks.buy.given: 'like' is not a task of this domain"),
        ({"buy": {"label": "buy", "given": "buy"}}, "tasks.buy.given: goes in a circle: buy given buy"),
        (
            {"a": {"label": "buy", "given": "b"}, "b": {"label": "buy", "given": "a"}},
            "tasks.a.given: goes in a circle: a given b given a",
        ),
        (
            {"spent": {"kind": "amount", "label": "rank"}, "buy": {"label": "buy", "given": "spent"}},
            "tasks.buy.given: 'spent' is a task of another kind",
        ),
        ({"buy": {"label": "buy", "given": "click", "negative_rate": 0.1}}, "tasks.buy: has negative_rate and given"),
        ({"buy": {"label": "buy", "negative_rate": 0.0}}, "tasks.buy.negative_rate: Input should be greater than 0"),
        (
            {"buy": {"label": "buy", "negative_rate": 1.5}},
            "tasks.buy.negative_rate: Input should be less than or equal to 1",
        ),
        (
            {"spent": {"kind": "amount", "label": "rank", "negative_rate": 0.1}},
            "tasks.spent.negative_rate: has no effect: kind: amount has no such setting",
        ),
        (
            {"spent": {"kind": "amount", "label": "rank", "given": "click"}},
            "tasks.spent.given: has no effect: kind: amount has no such setting",
        ),
    ],
)
def test_what_cannot_be_a_chain_or_a_rate_is_refused(tasks, words):
    with pytest.raises(UserError) as error:
        load_experiment(world(**tasks), kinds=KINDS.with_(tasks={"amount": Amount}))
    assert f"domains.find.{words}" in str(error.value)


def test_a_task_of_several_domains_is_given_the_same_in_all():
    raw = world(buy={"label": "buy", "given": "click"})
    raw["domains"]["home"]["tasks"]["buy"] = {"label": "buy"}
    with pytest.raises(UserError, match=r"home.tasks.buy: is not the task of that name in domains.find"):
        load_experiment(raw, kinds=KINDS)


def test_the_layout_says_who_is_given_whom_and_what_is_left_of_which_negatives():
    raw = world(click={"label": "click", "negative_rate": 0.25}, buy={"label": "buy", "given": "click"})
    layout = make_layout(load_experiment(raw, kinds=KINDS), {}, {})
    assert layout.tasks == ("click", "buy", "like")
    assert layout.task_parents == (None, 0, None)
    assert layout.output_offsets == ((math.log(4), 0.0, 0.0), (0.0,) * 3, (0.0,) * 3)


def test_offsets_of_their_domain_are_added_before_the_chain(layout, make_batch):
    batch = make_batch(layout, [2, 1, 0])
    batch.labels, batch.label_mask = (
        torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]]),
        torch.ones(3, 2, dtype=torch.bool),
    )
    logits, weights = torch.tensor([[0.5, -1.0], [2.0, 1.0], [-0.3, 0.7]]), torch.ones(3, 2)
    offsets = torch.tensor([[math.log(4), 0.0], [0.0, 0.0], [0.0, 0.0]])
    _, sums, _ = multitask_loss(CHAIN, logits, batch, weights, 1, offsets)
    click = sigmoid(np.array([0.5 + math.log(4), 2 + math.log(4), -0.3]))
    both = click * sigmoid(np.array([-1.0, 1.0, 0.7]))
    wanted = -np.log(np.stack([[click[0] * click[1], both[0] * (1 - both[1])], [1 - click[2], 1 - both[2]]]))
    np.testing.assert_allclose(sums[:2].numpy(), wanted, rtol=1e-5)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            multitask_loss(CHAIN, logits, batch, weights, 1),
            multitask_loss(CHAIN, logits, batch, weights, 1, torch.zeros(3, 2)),
            strict=True,
        )
    )


def fitted(loss, shape: tuple[int, ...]) -> torch.Tensor:
    """What minimises a loss of parameters, begun at 0."""
    parameters = torch.zeros(shape, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=300, line_search_fn="strong_wolfe")

    def step():
        optimizer.zero_grad()
        found = loss(parameters)
        found.backward()
        return found

    optimizer.step(step)
    return parameters.detach()


def test_scores_learned_from_a_part_of_the_negatives_are_calibrated_to_all_rows(layout, make_batch):
    """Of 1,000 rows 80 clicks; a tenth of the others is left, 172 rows. Conversions of 20 clicks."""
    batch = make_batch(layout, [172, 0, 0])
    batch.labels = torch.zeros(172, 2)
    batch.labels[:80, 0], batch.labels[:20, 1] = 1.0, 1.0
    batch.label_mask = torch.ones(172, 2, dtype=torch.bool)
    offsets = torch.zeros(3, 2)
    offsets[0, 0] = Binary(label="click", negative_rate=0.1).offset
    logits = fitted(lambda z: multitask_loss(CHAIN, z.expand(172, 2), batch, torch.ones(3, 2), 172, offsets)[0], (1, 2))
    assert CHAIN.scores(logits)[0].tolist() == pytest.approx([0.08, 0.02], rel=1e-3)


def test_a_chain_learned_from_all_rows_is_better_on_all_rows_than_conversions_learned_from_clicks(layout, make_batch):
    """Conversions depend on x as no line does, and clicks choose the x where they are seen: of two logits that are lines, the
    chain's fit all impressions and those of two tasks the clicked ones. Labels are true probabilities: nothing is by chance.
    """
    x = torch.linspace(-3, 3, 61)
    click, conversion = torch.sigmoid(1.5 * x - 1), torch.sigmoid(1.5 - x**2)
    both = click * conversion
    batch = make_batch(layout, [61, 0, 0])
    batch.label_mask, ones = torch.ones(61, 2, dtype=torch.bool), torch.ones(3, 2)
    inputs = torch.stack([torch.ones(61), x], 1)

    def learned(tasks: TaskColumns, of_conversion: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
        batch.labels, batch.weights = torch.stack([click, of_conversion], 1), weights
        return inputs @ fitted(lambda w: multitask_loss(tasks, inputs @ w, batch, ones, 61)[0], (2, 2))

    chain = CHAIN.joint(learned(CHAIN, both, None))[:, 1]
    alone = TaskColumns((CLICK, Binary(label="buy")))
    seen = learned(alone, conversion, torch.stack([torch.ones(61), click], 1))  # as often as it is clicked

    def loss(logits: torch.Tensor) -> float:
        return binary_cross_entropy_with_logits(logits, both).item()

    assert loss(chain) < loss(CHAIN.joint(seen)[:, 1]) - 1e-3  # the product of the two tasks
    assert loss(chain) < loss(seen[:, 1]) - 0.1  # what a clicked row would do, taken for what any does
