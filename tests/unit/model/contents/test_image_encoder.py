import numpy as np
import pytest
import torch
from PIL import Image as Pil

from foundrank.data.content_kinds.content import Located
from foundrank.data.content_kinds.image import Image
from foundrank.data.content_kinds.pictures import DAMAGED, digest_of
from foundrank.data.errors import UserError
from foundrank.model.contents import image_encoder
from foundrank.model.contents.image_encoder_loading import load_image_encoder
from tests.pictures import encoded, plain
from tests.tiny_encoder import write_bert, write_clip, write_vit


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    return write_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    """Seven pictures of all sizes."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    sizes = [(32, 32), (1, 1), (100, 1), (1, 100), (50, 31), (31, 50), (64, 64)]
    images = [Pil.fromarray(rng.integers(0, 255, (high, wide, 3), np.uint8)) for wide, high in sizes]
    return [written(folder / f"{at}.png", encoded(image)) for at, image in enumerate(images)]


def written(path, content):
    path.write_bytes(content)
    return Located(str(path), digest_of(content))


def encoder(folder, **fields):
    return load_image_encoder(Image(image="{path}", encoder=str(folder), **{"precision": "fp32"} | fields))


def plain_features(folder, picture, pooling):
    """One picture by the definition, as transformers shows it."""
    from transformers import AutoImageProcessor, AutoModel

    processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    model = AutoModel.from_pretrained(folder).eval()
    inputs = processor(images=Pil.open(picture.location).convert("RGB"), return_tensors="pt")
    with torch.no_grad():
        output = getattr(model, "get_image_features", model)(**inputs)
    found = {
        "pooler": output.pooler_output,
        "cls": output.last_hidden_state[:, 0],
        "mean": output.last_hidden_state.mean(1),
    }
    return found[pooling][0].numpy()


@pytest.mark.parametrize(
    ("kind", "pooling", "batch_size"),
    [("vit", "pooler", 1), ("vit", "cls", 3), ("vit", "mean", 64), ("clip", "pooler", 3), ("clip", "mean", 3)],
)
def test_batches_give_what_single_pictures_give(kind, pooling, batch_size, some, request):
    folder = request.getfixturevalue(kind)
    vectors, cut, bad = encoder(folder, pooling=pooling, batch_size=batch_size, normalize=False).encode(some)
    assert vectors.dtype == np.float32
    expected = np.stack([plain_features(folder, picture, pooling) for picture in some])
    np.testing.assert_allclose(vectors, expected, atol=2e-5)
    assert (cut, bad) == (0, {})


def test_pictures_of_a_two_tower_model_are_in_the_space_of_its_texts(clip, some):
    loaded = encoder(clip)
    assert (loaded.size, loaded.pooling) == (6, "pooler")
    np.testing.assert_allclose(np.linalg.norm(loaded.encode(some).vectors, axis=1), 1, atol=1e-5)


def test_the_same_list_gives_the_same_bits(vit, some):
    assert np.array_equal(encoder(vit).encode(some).vectors, encoder(vit).encode(some).vectors)


def test_a_damaged_picture_is_told_and_leaves_the_others_as_they_are(vit, some, tmp_path):
    noise = encoded(Pil.effect_noise((64, 64), 50))
    broken = written(tmp_path / "broken.png", noise[: len(noise) // 2])
    with_it = encoder(vit, batch_size=4).encode([some[0], broken, *some[2:]])
    assert with_it.bad == {1: DAMAGED}
    assert not with_it.vectors[1].any()
    kept = [0, 2, 3, 4, 5, 6]
    assert np.array_equal(with_it.vectors[kept], encoder(vit, batch_size=4).encode(some).vectors[kept])
    assert encoder(vit).encode([broken] * 3).bad == dict.fromkeys(range(3), DAMAGED)
    assert encoder(vit).encode([]).vectors.shape == (0, 8)


def test_a_file_that_changes_under_way_is_told(vit, tmp_path):
    picture = written(tmp_path / "one.png", plain("red"))
    (tmp_path / "one.png").write_bytes(plain("blue"))
    with pytest.raises(UserError, match=r"one.png: was changed while it was read"):
        encoder(vit).encode([picture])


def test_too_little_memory_to_decode_is_told(vit, tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr(image_encoder, "decode", fail)
    with pytest.raises(UserError, match=r"one.png: takes more memory to decode than there is"):
        encoder(vit).encode([written(tmp_path / "one.png", plain("red"))])


def test_a_pooler_without_weights_is_not_made_up(tmp_path, some):
    loaded = encoder(write_vit(tmp_path, pooler=False))
    assert loaded.pooling == "cls"
    assert loaded.weights_checksum == encoder(tmp_path).weights_checksum
    np.testing.assert_allclose(loaded.encode(some).vectors, encoder(tmp_path, pooling="cls").encode(some).vectors)
    with pytest.raises(UserError, match=r"pooling: is pooler, which it has not\. Use cls or mean"):
        encoder(tmp_path, pooling="pooler")


def test_vectors_depend_on_weights_and_on_how_pictures_are_brought_to_size(vit, tmp_path):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    made_with = encoder(vit).made_with("")
    assert made_with == encoder(vit, batch_size=1).made_with("")
    assert made_with != encoder(vit, pooling="mean").made_with("")
    other = write_vit(tmp_path)
    assert made_with == encoder(other).made_with("")
    ViTImageProcessorPil(size={"height": 32, "width": 32}, image_mean=[0.4] * 3).save_pretrained(other)
    assert made_with != encoder(other).made_with("")


def test_a_convolutional_network(tmp_path, some):
    from transformers import ResNetConfig, ResNetModel
    from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic")
    ResNetModel(config).save_pretrained(tmp_path)
    ConvNextImageProcessorPil(size={"shortest_edge": 32}).save_pretrained(tmp_path)
    loaded = encoder(tmp_path, normalize=False)
    assert (loaded.size, loaded.pooling) == (12, "pooler")
    mean = encoder(tmp_path, pooling="mean", normalize=False).encode(some).vectors  # what its pooler does
    np.testing.assert_allclose(loaded.encode(some).vectors, mean, atol=1e-5)
    with pytest.raises(UserError, match=r"pooling: is cls, which it has not\. Use pooler or mean"):
        encoder(tmp_path, pooling="cls")


def test_what_is_no_image_encoder_is_told(tmp_path, vit):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    with pytest.raises(UserError, match="no such folder"):
        encoder(tmp_path / "none")
    with pytest.raises(UserError, match=r"image encoder .*holds no model.*image processor"):
        encoder(write_bert(tmp_path / "bert", ["tea"]))
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(tmp_path / "bert")
    with pytest.raises(UserError, match="no encoder that makes one vector of each picture"):
        encoder(tmp_path / "bert")
    ViTImageProcessorPil(size={"height": 40, "width": 40}).save_pretrained(write_vit(tmp_path / "other"))
    with pytest.raises(UserError, match=r"one vector of each picture.*40"):
        encoder(tmp_path / "other")
    ViTImageProcessorPil(do_resize=False).save_pretrained(tmp_path / "other")
    with pytest.raises(UserError, match="one vector of each picture"):
        encoder(tmp_path / "other")


def test_bf16_is_near_fp32(vit, some):
    single, half = (encoder(vit, precision=precision).encode(some).vectors for precision in ("fp32", "bf16"))
    assert (single * half).sum(1).min() > 0.99
