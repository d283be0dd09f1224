"""foundrank from Python: train, evaluate, embed, tokenize and score in a script, in a notebook, and under torchrun.

    import foundrank

    experiment = foundrank.load_experiment("shop.yaml", training={"epochs": 1})
    run = foundrank.train(experiment, "runs/shop")
    scores = foundrank.load("runs/shop").score(table, domain="home")

This folder is the package's root: its modules are `foundrank` and ``foundrank.NAME``, and they import absolutely. What a
name stands for is imported when the name is first used, so that ``import foundrank`` takes no time and changes nothing.
"""

import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "foundrank":
    raise ImportError("this folder is the root of the package: import foundrank", name=__name__)

if TYPE_CHECKING:
    from foundrank.data.config.experiment import Experiment
    from foundrank.data.config.kinds import Kinds
    from foundrank.data.errors import UserError
    from foundrank.experiments import load_experiment
    from foundrank.jobs import align, embed, evaluate, simulate, tokenize, train
    from foundrank.model.kinds import KINDS
    from foundrank.runs import Run
    from foundrank.scorer import Scorer, load

    __version__: str

__all__ = [
    "KINDS",
    "Experiment",
    "Kinds",
    "Run",
    "Scorer",
    "UserError",
    "__version__",
    "align",
    "embed",
    "evaluate",
    "load",
    "load_experiment",
    "simulate",
    "tokenize",
    "train",
]

_MODULE_OF = {
    "KINDS": "foundrank.model.kinds",
    "Experiment": "foundrank.data.config.experiment",
    "Kinds": "foundrank.data.config.kinds",
    "Run": "foundrank.runs",
    "Scorer": "foundrank.scorer",
    "UserError": "foundrank.data.errors",
    "align": "foundrank.jobs",
    "embed": "foundrank.jobs",
    "evaluate": "foundrank.jobs",
    "load": "foundrank.scorer",
    "load_experiment": "foundrank.experiments",
    "simulate": "foundrank.jobs",
    "tokenize": "foundrank.jobs",
    "train": "foundrank.jobs",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # it takes longer to import than all else here

        return version("foundrank")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'foundrank' has no attribute {name!r}", name=name, obj=None)
    environment = dict(os.environ)
    with warnings.catch_warnings():  # what libraries set for the whole process when they are imported is taken back
        found = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    for added in os.environ.keys() - environment.keys():
        del os.environ[added]
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
