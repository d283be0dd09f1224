from dataclasses import replace

import pytest
import torch

from foundrank.data.errors import UserError
from foundrank.data.schema.layout import Layout
from foundrank.model.gates import GATES
from foundrank.model.representation.id_state import Hiding, IdFromText
from foundrank.model.representation.interaction import cosines, cosines_of
from foundrank.model.representation.owner_vectors import OwnerVectors, owners_and_aspects


@pytest.fixture
def encode(layout):
    """Encodes a batch with random lookups: ``(fused, weights, encoder)``."""

    def run(batch, pooled=None, training=False, id_dropout=0.0, **changes):
        torch.manual_seed(0)
        arguments = {
            "aspects": ("id", "text", "sparse"),
            "embedding_dim": 8,
            "width": 6,
            "gate": GATES["mean"](),
            "hiding": Hiding(id_dropout),
            "unknown_id": False,
            "id_from_text": False,
        }
        encoder = OwnerVectors(layout, **(arguments | changes)).train(training)
        pooled = {key: torch.randn(batch.rows, 8) for key in layout.keys} if pooled is None else pooled
        batch.vectors = {name: v.float() for name, v in batch.vectors.items()}
        fused, weights, _, encoder.off = encoder(pooled, batch, torch.randn(batch.rows, 6))
        return fused, weights, encoder

    return run


def test_owners_have_the_aspects_that_are_wanted_and_there(layout):
    assert owners_and_aspects(layout, ("text", "sparse", "id")) == {
        "user": ("id", "sparse"),
        "query": ("id", "text"),
        "item": ("id", "text", "sparse"),
        "history": ("id", "text"),
        "context": ("sparse",),
    }
    assert owners_and_aspects(layout, ["text"]) == {"query": ("text",), "item": ("text",), "history": ("text",)}


def test_no_aspect_at_all_is_refused(layout):
    with pytest.raises(UserError, match=r"model\.aspects"):
        owners_and_aspects(replace(layout, contents_of={}), ["text"])


def test_presence_follows_the_data(layout, make_batch, encode):
    batch = make_batch(layout, [6, 5, 4], padding=3)
    _, weights, _ = encode(batch)
    jagged = batch.sparse.to_dict()

    def filled(key: str) -> torch.Tensor:
        return jagged[key].lengths()[:15] > 0

    counts = dict(zip(layout.entities, batch.id_counts.T, strict=True))
    torch.testing.assert_close(
        weights["user"] > 0, torch.stack([counts["user"] > 0, filled("feature_likes") | (counts["user"] >= 0)], 1)
    )
    torch.testing.assert_close(
        weights["query"] > 0, torch.stack([counts["query"] > 0, batch.vector_present["text_query"]], 1)
    )
    item = [
        counts["item"] > 0,
        batch.vector_present["text_item"],
        filled("feature_shelf") | batch.vector_present["feature_image"],
    ]
    torch.testing.assert_close(weights["item"] > 0, torch.stack(item, 1))
    torch.testing.assert_close(
        weights["history"] > 0, torch.stack([filled("history"), batch.vector_present["text_history"]], 1)
    )
    assert weights["context"].eq(1).all()
    assert (counts["user"] == 0).any(), "the batch should hold an id never seen"


def test_a_row_without_a_query_takes_the_learned_vector(layout, make_batch, encode):
    batch = make_batch(layout, [6, 5, 4])
    query = layout.entities.index("query")
    batch.id_counts[0, query], batch.vector_present["text_query"][0] = 0.0, False  # a query, but nothing is known of it
    batch.id_counts[1, query], batch.vector_present["text_query"][1] = -1.0, True  # text is enough
    fused, _, encoder = encode(batch)
    assert fused["query"][0].eq(0).all()
    assert not torch.equal(fused["query"][1], encoder.no_query)
    assert all(torch.equal(row, encoder.no_query) for row in fused["query"][6:])


def test_history_lies_in_the_space_of_the_items(layout, make_batch, encode):
    batch = make_batch(layout, [4, 0, 0])
    pooled = {key: torch.randn(4, 8) for key in layout.keys}
    pooled["history"] = pooled["id_item"]
    batch.vectors["text_history"] = batch.vectors["text_item"]
    for name in ("text_history", "text_item"):
        batch.vector_present[name] = torch.ones(4, dtype=torch.bool)
    batch.id_counts[:] = 1
    _, _, encoder = encode(batch, pooled)
    non_empty = torch.ones(len(layout.keys), 4, dtype=torch.bool)
    item, history = (encoder._aspects(owner, batch, pooled, lambda: non_empty) for owner in ("item", "history"))
    for aspect in ("id", "text"):
        torch.testing.assert_close(history[aspect][0], item[aspect][0])


def test_id_dropout_hides_ids_that_are_not_alone_in_training_only(layout, make_batch, encode):
    batch = make_batch(layout, [200, 100, 100])
    _, kept, _ = encode(batch, id_dropout=0.5)
    _, hidden, _ = encode(batch, id_dropout=0.5, training=True)
    for owner in ("user", "item", "query"):
        had, has = kept[owner] > 0, hidden[owner] > 0
        alone = had[:, 0] & ~had[:, 1:].any(1)
        assert torch.equal(had[:, 1:], has[:, 1:])
        assert has[alone, 0].all()
        together = had[:, 0] & ~alone
        assert 0.3 < has[together, 0].float().mean() < 0.7
    assert torch.equal(kept["history"], hidden["history"])


def test_text_cosines(layout, make_batch):
    batch = make_batch(layout, [6, 5, 4])
    partners = cosines_of(layout, owners_and_aspects(layout, ("id", "text")))
    assert [str(pair) for pair in partners] == ["cosine of item and query", "cosine of item and history"]
    assert cosines_of(layout, owners_and_aspects(layout, ("id",))) == ()
    batch.vectors = {name: v.float() for name, v in batch.vectors.items()}
    found = cosines(layout, batch, partners)
    both = batch.vector_present["text_item"] & batch.vector_present["text_history"]
    expected = torch.cosine_similarity(batch.vectors["text_item"], batch.vectors["text_history"], dim=1)
    torch.testing.assert_close(found[both, 1], expected[both])
    assert found[~both, 1].eq(0).all()
    assert found[6:, 0].eq(0).all()


def test_the_text_stands_in_for_an_id_never_seen(layout, make_batch, encode):
    batch = make_batch(layout, [60, 50, 40])
    _, plain, _ = encode(batch)
    _, weights, encoder = encode(batch, id_from_text=True)
    has_text = batch.vector_present["text_item"]
    had_id = plain["item"][:, 0] > 0
    assert torch.equal(weights["item"][:, 0] > 0, had_id | has_text)
    assert torch.equal(weights["user"] > 0, plain["user"] > 0)  # users have no text
    assert set(encoder.ids_from_text) == {"query", "item"}
    assert encoder.off > 0


def with_title(layout: Layout) -> Layout:
    """The layout with a second text of items and their history, and a vector of queries that no text can be compared with."""
    added = {"content_title_item": 12, "content_title_history": 12, "content_mood_query": 12}
    contents = {owner: dict(of) for owner, of in layout.contents_of.items()}
    for name in added:
        _, content, owner = name.split("_")
        contents[owner][content] = name
    texts = ("text_item", "text_query", "content_title_item", "text_history", "content_title_history")
    encoders = dict.fromkeys(texts, "minilm")
    return replace(layout, vectors={**layout.vectors, **added}, contents_of=contents, encoder_of=encoders)


def test_contents_are_aspects_of_their_own_names_and_masked_where_missing(layout, make_batch):
    layout = with_title(layout)
    assert owners_and_aspects(layout, ())["item"] == ("id", "text", "title", "sparse")
    assert owners_and_aspects(layout, ("title",)) == {"item": ("title",), "history": ("title",)}
    encoder = OwnerVectors(layout, (), 8, 6, GATES["mean"](), Hiding(0.0), False, False).eval()
    batch = make_batch(layout, [6, 5, 4])
    batch.vectors = {name: v.float() for name, v in batch.vectors.items()}
    pooled = {key: torch.randn(batch.rows, 8) for key in layout.keys}
    _, weights, _, _ = encoder(pooled, batch, torch.randn(batch.rows, 6))
    for at, name in enumerate(("text_item", "content_title_item"), 1):
        assert torch.equal(weights["item"][:, at] > 0, batch.vector_present[name])
    titles = (*layout.contents_of["history"].values(), "content_mood_query")
    for owner, at in (("history", 1), ("history", 2), ("query", 2)):
        name = titles[at - 1] if owner == "history" else titles[2]
        assert torch.equal(weights[owner][:, at] > 0, batch.vector_present[name])


def test_what_one_encoder_made_and_what_has_one_name_is_compared(layout):
    layout = with_title(layout)
    every = owners_and_aspects(layout, ())
    assert [str(pair) for pair in cosines_of(layout, every)] == [
        "cosine of item and query",
        "cosine of item title and query text",
        "cosine of item and history",
        "cosine of item title and history title",
    ]
    narrow = replace(layout, vectors={**layout.vectors, "content_title_item": 5})
    assert [str(pair) for pair in cosines_of(narrow, every)] == [
        "cosine of item and query",
        "cosine of item and history",
    ]


def test_the_mean_of_the_contents_that_are_there_predicts_an_id():
    torch.manual_seed(0)
    several, one = IdFromText(6, 2), IdFromText(6, 1)
    one.load_state_dict(several.state_dict())
    aspects, counts = torch.randn(4, 4, 6), torch.zeros(4)
    present = torch.tensor([[0, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 1], [0, 0, 0, 1]]).bool()
    found, there, _ = several(aspects, present, counts)
    texts = torch.stack([aspects[0, 1:3].mean(0), aspects[1, 1], aspects[2, 2]])
    wanted, _, _ = one(
        torch.stack([aspects[:3, 0], texts], 1), present[:3, :1].new_tensor([[0, 1]] * 3), torch.zeros(3)
    )
    torch.testing.assert_close(found[:3, 0], wanted[:, 0])
    torch.testing.assert_close(found[3, 0], aspects[3, 0])
    assert there[:, 0].tolist() == [True, True, True, False]
    assert torch.equal(found[:, 1:], aspects[:, 1:])


def test_the_loss_of_predicted_ids_moves_the_prediction_alone(layout, make_batch, encode):
    batch = make_batch(layout, [6, 5, 4])
    _, _, encoder = encode(batch, id_from_text=True)
    encoder.off.backward()
    moved = {name for name, p in encoder.named_parameters() if p.grad is not None and p.grad.ne(0).any()}
    assert {name.split(".")[0] for name in moved} == {"ids_from_text", "text_projections"}
    assert not [name for name in moved if "id_projections" in name]


def test_a_hidden_id_counts_as_never_seen(layout, make_batch, encode):
    batch = make_batch(layout, [200, 100, 100])
    batch.id_counts.clamp_(max=50).mul_(20)

    def after(share: float, weight: float) -> torch.Tensor:
        torch.manual_seed(0)
        changes = {"gate": GATES["domain_count_gate"](), "id_dropout": share}
        _, _, encoder = encode(batch, training=True, **changes)
        with torch.no_grad():
            encoder.gates["item"].count_weight[1] = weight  # of the text
        pooled = {key: torch.zeros(batch.sparse.stride(), 8) for key in layout.keys}
        torch.manual_seed(1)
        return encoder(pooled, batch, torch.zeros(batch.rows, 6))[1]["item"]

    hidden = after(0.99, 5.0)
    rows = batch.vector_present["text_item"] & (hidden[:, 0] == 0) & (hidden[:, 2] > 0)
    assert rows.any()
    torch.testing.assert_close(hidden[rows], after(0.99, 0.0)[rows])
