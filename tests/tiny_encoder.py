"""Encoders with random weights, of texts with a vocabulary of a few words and of small pictures, as local folders."""

from collections.abc import Iterable
from pathlib import Path


def write_bert(folder: Path, words: Iterable[str], hidden: int = 8) -> Path:
    """A bidirectional encoder that takes 32 tokens; its files say nothing of pooling."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(set(words))]
    (folder / "vocab.txt").write_text("\n".join(vocabulary))
    BertTokenizer(str(folder / "vocab.txt"), model_max_length=32).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=32,
        initializer_range=1.0,
    )
    BertModel(config).save_pretrained(folder)
    return folder


def write_llama(folder: Path, words: Iterable[str], hidden: int = 8) -> Path:
    """A decoder with a begin token and no padding token, and no limit on tokens that would matter."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaModel, PreTrainedTokenizerFast

    vocabulary = ["<unk>", "<s>", "</s>", *sorted(set(words))]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=1 << 20
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        max_position_embeddings=4096,
        initializer_range=1.0,
    )
    LlamaModel(config).save_pretrained(folder)
    return folder


def write_vit(folder: Path, hidden: int = 8, size: int = 32, pooler: bool = True) -> Path:
    """A vision transformer for pictures of ``size`` pixels a side, in 16 places."""
    import torch
    from transformers import ViTConfig, ViTModel
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    config = ViTConfig(
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * hidden,
        image_size=size,
        patch_size=size // 4,
        initializer_range=0.5,
    )
    torch.manual_seed(0)
    ViTModel(config, add_pooling_layer=pooler).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": size, "width": size}).save_pretrained(folder)
    return folder


def write_clip(folder: Path, hidden: int = 8, projected: int = 6) -> Path:
    """A two-tower model whose pictures, cut to 32 pixels a side, and texts have vectors of one width."""
    import torch
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    shape = {"hidden_size": hidden, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = CLIPConfig(
        text_config={**shape, "vocab_size": 9, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2},
        vision_config={**shape, "image_size": 32, "patch_size": 8},
        projection_dim=projected,
    )
    torch.manual_seed(0)
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder
