"""The frozen language model that turns texts into vectors.

Pooling over the tokens of a small sentence encoder follows Sentence-BERT (Reimers and Gurevych, 2019); the last token of
a decoder follows E5-Mistral (Wang et al., 2024).
"""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .content_encoder import Encoded
from .text_encoder_files import StatedSettings
from .weights_checksum import add_weights


@dataclass(frozen=True)
class TextEncoder:
    """A loaded language model and how its output becomes one vector per text. Several threads may use one.

    Attributes:
        tokenizer: a transformers tokenizer.
        model: a transformers model, in evaluation mode on ``device``.
        stated: what its own files say; here its prompts, its case and its dense layers count.
        pooling: ``mean``, ``cls`` or ``last`` (token).
        normalize: whether vectors have length 1.
        max_length: tokens per text, special ones included; the rest is cut.
        batch_tokens: tokens per forward pass, padding included.
        precision: ``fp32`` or ``bf16``.
        device: where the model runs.
        revision: commit of the hub repository it was loaded from; None for a folder.
    """

    tokenizer: Any
    model: nn.Module
    stated: StatedSettings
    pooling: str
    normalize: bool
    max_length: int
    batch_tokens: int
    precision: str
    device: torch.device
    revision: str | None = None
    # Fast tokenizers keep their truncation setting in themselves, so that two threads must take turns.
    _turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def size(self) -> int:
        """D, the width of a vector."""
        if self.stated.dense:
            return self.stated.dense[-1][0].out_features  # type: ignore[return-value]
        return self.model.config.hidden_size  # type: ignore[union-attr]

    @cached_property
    def weights_checksum(self) -> str:
        """SHA-256 over the names and values of all weights, and over the vocabulary."""
        digest = hashlib.sha256()
        vocabulary = sorted(self.tokenizer.get_vocab().items())
        digest.update(f"{self.stated.lower_case}:{vocabulary}".encode(errors="surrogatepass"))
        dense = [layer.state_dict() for layer in self.stated.dense]
        for at, weights in enumerate([self.model.state_dict(), *dense]):
            add_weights(digest, weights, f"{at}:")
        return digest.hexdigest()

    def encode(self, inputs: list[str], prompt: str = "") -> Encoded:
        """The vectors of some texts.

        Texts of similar length share a forward pass, so that little of it is padding. A vector does not depend on
        which texts it was encoded with, up to rounding; the same list gives the same bits.

        Args:
            inputs: N texts.
            prompt: put before each.

        Returns:
            ``[N, D]`` float32, and how many texts were cut after ``max_length`` tokens.
        """
        vectors = np.empty((len(inputs), self.size), np.float32)
        tokens, cut = self._tokenize([prompt + text for text in inputs])
        lengths = np.array([len(ids) for ids in tokens], np.int64)
        order = np.argsort(-lengths, kind="stable")  # longest first: memory peaks in the first pass
        with torch.inference_mode():
            for rows in _batches(order, lengths, self.batch_tokens):
                vectors[rows] = self._forward([tokens[row] for row in rows], lengths[rows]).cpu().numpy()
        return Encoded(vectors, cut)

    def _tokenize(self, texts: list[str]) -> tuple[list[list[int]], int]:
        if not texts:
            return [], 0
        if self.stated.lower_case:
            texts = [text.lower() for text in texts]
        with self._turn:
            tokens = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
            full = [text for text, ids in zip(texts, tokens, strict=True) if len(ids) >= self.max_length]
            whole = self.tokenizer(full, truncation=False, verbose=False)["input_ids"] if full else []
        filler = self._padding
        return [ids or [filler] for ids in tokens], sum(len(ids) > self.max_length for ids in whole)

    @property
    def _padding(self) -> int:
        """What fills the places after a text. They are masked, so any token would do."""
        return next(i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id, 0) if i is not None)

    def prompt(self, entity: str) -> str:
        """The one its own files state for queries or for documents; nothing where they state none."""
        return self.stated.prompt(entity)

    def made_with(self, prompt: str) -> dict[str, Any]:
        """All that a vector depends on besides its text."""
        return {
            "weights_sha256": self.weights_checksum,
            "precision": self.precision,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "max_length": self.max_length,
            "prompt": prompt,
        }

    def _forward(self, tokens: list[list[int]], lengths: np.ndarray) -> Tensor:
        """``[n, D]`` float32. Padding is on the right, where the tokens of a decoder cannot see it."""
        longest = int(lengths.max())
        ids = np.full((len(tokens), longest), self._padding, np.int64)
        for row, of_text in enumerate(tokens):
            ids[row, : len(of_text)] = of_text
        length = torch.from_numpy(lengths).to(self.device)
        mask = torch.arange(longest, device=self.device) < length[:, None]
        padded = bool((lengths < longest).any())
        output = self.model(
            input_ids=torch.from_numpy(ids).to(self.device), attention_mask=mask.long() if padded else None
        )
        hidden = output.last_hidden_state
        if self.pooling == "cls":
            pooled = hidden[:, 0].float()
        elif self.pooling == "last":
            pooled = hidden[torch.arange(len(tokens), device=self.device), length - 1].float()
        else:
            pooled = (hidden.float() * mask[:, :, None]).sum(1) / length[:, None]
        for layer in self.stated.dense:
            pooled = layer(pooled)
        return nn.functional.normalize(pooled, dim=-1) if self.normalize else pooled


def _batches(order: np.ndarray, lengths: np.ndarray, budget: int) -> Iterator[np.ndarray]:
    """Cuts ``order`` (longest text first) into pieces whose texts, padded to the first, have at most ``budget`` tokens."""
    start = 0
    while start < len(order):
        texts = max(1, budget // int(lengths[order[start]]))
        yield order[start : start + texts]
        start += texts
