"""Text encoders with random weights and a vocabulary of a few words, as local folders."""

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
