"""In which domain a past item was."""

from dataclasses import replace

import pytest
import torch

from foundrank.data.batch.past_items import Past
from foundrank.model.foundation.foundation import Foundation
from foundrank.model.foundation.transfer import transferred
from foundrank.model.history.history import History
from foundrank.model.layers.axes import axes_of, levels_of
from tests.sequences import WIDTH, sequence_of, some


@pytest.fixture
def history(layout, config) -> History:
    options = config(width=WIDTH, history={"encoder": "sasrec", "dropout": 0.0})
    return History(replace(layout, past=6, past_domains=True), options, 4).eval()


def in_domains(history: History, domains: list[int], attention: bool = False):
    items, hand = some()
    sequence = sequence_of(items)
    if attention:
        sequence = replace(sequence, attention=(2 * sequence.items, hand))
    past: Past = replace(PAST, domains=torch.tensor(domains))
    return sequence, history.in_domains(sequence, past)


NONE = torch.zeros(0)
PAST = Past(*[NONE] * 13, vectors={}, vector_at={}, longest=6, trained_items=0, trained_events=0)
WHERE = [0, 2, -1, 1, 1, 0, -1, 2, 0, 1]  # of 3, 0, 6 and 1 items


def test_a_past_item_has_its_domains_vector_on_top_and_an_unknown_one_nothing(history: History):
    assert history.domain_embedding is not None
    for attention in (False, True):
        sequence, seen = in_domains(history, WHERE, attention)
        wanted = torch.stack([torch.zeros(WIDTH) if d < 0 else history.domain_embedding[d] for d in WHERE])
        torch.testing.assert_close(seen.items - sequence.items, wanted)
        assert (seen.attention is None) == (sequence.attention is None)
        if sequence.attention is not None and seen.attention is not None:
            torch.testing.assert_close(seen.attention[0] - sequence.attention[0], wanted)
            assert seen.attention[1] is sequence.attention[1]  # the item at hand is where the row is, whatever the past


def test_the_encoder_tells_domains_apart_and_all_of_them_learn(history: History):
    moved = list(WHERE)
    moved[4] = 2  # in the row of 6
    states = [history.encoder(in_domains(history, domains)[1]) for domains in (WHERE, moved)]
    assert ((states[0] - states[1]).abs().amax(1) > 1e-5).tolist() == [False, False, True, False]
    states[0].square().sum().backward()
    assert history.domain_embedding is not None
    assert history.domain_embedding.grad is not None
    assert (history.domain_embedding.grad != 0).any(1).all()


def test_without_a_column_of_domains_items_are_the_same_wherever_they_were(layout, config):
    options = config(width=WIDTH, history={"encoder": "sasrec"})
    plain = History(replace(layout, past=6), options, 4)
    assert plain.domain_embedding is None
    sequence, seen = in_domains(plain, [-1] * 10)
    assert seen is sequence


def test_domains_are_what_differs_between_domains_and_not_what_they_share(layout, config):
    options = config(history={"encoder": "sasrec"})
    levels = levels_of(Foundation(replace(layout, past=6, past_domains=True), options, 4))
    assert levels["dense.history.domain_embedding"] == "L2"
    assert levels["dense.history.encoder.stack.positions"] == "L1"


def test_what_a_domain_adds_goes_over_by_name(layout, other_layout, config):
    options = config(history={"encoder": "sasrec"})
    old, new = (Foundation(replace(of, past=6, past_domains=True), options, 4).dense for of in (layout, other_layout))
    name = "history.domain_embedding"
    axes = [axes_of(dense)[name] for dense in (old, new)]
    value = dict(old.named_parameters())[name]
    found = transferred(value, *axes, {"kids": {"d0": 0.25, "d2": 0.75}})
    torch.testing.assert_close(found, torch.stack([value[1], 0.25 * value[0] + 0.75 * value[2]]))
