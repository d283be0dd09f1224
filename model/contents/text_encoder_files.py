"""What a text encoder's own files say of how it wants to be used, in the format of sentence-transformers.

A model folder or hub repository may hold ``modules.json`` (a chain of modules: transformer, pooling, dense layers,
normalisation), the pooling's ``config.json``, ``sentence_bert_config.json`` and ``config_sentence_transformers.json``.
Only JSON is read here, and dense layers from safetensors; nothing of the repository is run.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from ...data.errors import UserError
from ...data.storage.json_documents import Shape, read_document

POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
_OLD_FLAGS = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}
_ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}


@dataclass(frozen=True)
class StatedSettings:
    """What the files say; None where they say nothing.

    Attributes:
        pooling: ``mean``, ``cls`` or ``last``.
        normalize: whether vectors are scaled to length 1.
        max_length: tokens per text.
        lower_case: whether texts are to be put in lower case first.
        prompts: name -> text to put before each text.
        default_prompt: name of the one to use when none is chosen.
        dense: layers between pooling and normalisation.
    """

    pooling: str | None = None
    normalize: bool | None = None
    max_length: int | None = None
    lower_case: bool = False
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt: str | None = None
    dense: tuple[nn.Sequential, ...] = ()

    def prompt(self, entity: str) -> str:
        """The prompt for an entity's texts: queries are asked, everything else is a document."""
        names = ("query",) if entity == "query" else ("document", "passage")
        for name in (*names, self.default_prompt):
            if name is not None and name in self.prompts:
                return self.prompts[name]
        return ""


class _Module(Shape):
    """An entry of modules.json."""

    type: str
    path: str


def read_settings(source: str, revision: str | None, where: str) -> StatedSettings:
    """Reads what is there.

    Args:
        source: model folder or hub id.
        revision: of the hub id.
        where: the experiment's field, for errors.

    Raises:
        UserError: the files ask for a module or a pooling that is not supported here.
    """

    def read(name: str) -> Any:
        path = _file(source, name, revision)
        if path is None:
            return {}
        return read_document(Path(path), dict[str, Any] | list[_Module], "Get the encoder's folder anew.")

    limits, prompts = read("sentence_bert_config.json"), read("config_sentence_transformers.json")
    pooling, normalize, dense = None, None, []
    modules = read("modules.json") or []
    for module in modules:
        kind, path = module["type"].rsplit(".", 1)[-1], module["path"]
        if kind == "Pooling":
            pooling = _pooling(read(f"{path}/config.json"), where)
        elif kind == "Normalize":
            normalize = True
        elif kind == "Dense":
            dense.append(_dense(source, path, revision, read(f"{path}/config.json"), where))
        elif kind != "Transformer":
            raise UserError(
                where,
                f"its modules.json has a module '{kind}', which is not supported",
                "Name an encoder made of a transformer, a pooling, dense layers and normalisation.",
            )
    if modules and normalize is None:
        normalize = False
    return StatedSettings(
        pooling=pooling,
        normalize=normalize,
        max_length=limits.get("max_seq_length"),
        lower_case=bool(limits.get("do_lower_case")),
        prompts={name: text for name, text in (prompts.get("prompts") or {}).items() if text},
        default_prompt=prompts.get("default_prompt_name"),
        dense=tuple(dense),
    )


def _pooling(config: dict[str, Any], where: str) -> str:
    mode = config.get("pooling_mode") or [mode for flag, mode in _OLD_FLAGS.items() if config.get(flag)] or "mean"
    modes = [mode] if isinstance(mode, str) else list(mode)
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise UserError(
            where,
            f"its files ask for the pooling {' + '.join(modes)}, which is not supported",
            f"Set text.pooling to one of {', '.join(POOLINGS.values())} if the encoder works with it.",
        )
    return POOLINGS[modes[0]]


def _dense(source: str, path: str, revision: str | None, config: dict[str, Any], where: str) -> nn.Sequential:
    activation = str(config.get("activation_function", "Identity")).rsplit(".", 1)[-1]
    weights = _file(source, f"{path}/model.safetensors", revision)
    if activation not in _ACTIVATIONS or weights is None:
        what = f"with activation '{activation}'" if weights else "without model.safetensors"
        raise UserError(where, f"its module '{path}' is a dense layer {what}", "Name another encoder.")
    held = load_file(weights)
    layer = nn.Linear(config["in_features"], config["out_features"], bias="linear.bias" in held)
    layer.load_state_dict({name.removeprefix("linear."): tensor for name, tensor in held.items()})
    return nn.Sequential(layer, _ACTIVATIONS[activation]())


def _file(source: str, name: str, revision: str | None) -> str | None:
    """Path of one file of a model, fetched if need be; None where the model has no such file."""
    from transformers.utils.hub import cached_file  # importing transformers takes seconds

    # A file that could not be asked for is an error: taking it for absent would choose another pooling in silence.
    return cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
