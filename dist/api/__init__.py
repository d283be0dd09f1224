"""foundrank from Python: train, evaluate, embed and score in a script, in a notebook, and under torchrun.

    import foundrank

    experiment = foundrank.load_experiment("shop.yaml", training={"epochs": 1})
    run = foundrank.train(experiment, "runs/shop")
    scores = foundrank.load("runs/shop").score(table, domain="home")

This folder is the package's root: its modules are `foundrank` and ``foundrank.NAME``, and they import absolutely. What a
name stands for is imported when the name is first used, so that ``import foundrank`` takes no time and changes nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if __name__ != "foundrank":
    raise ImportError("this folder is the root of the package: import foundrank", name=__name__)

if TYPE_CHECKING:
    from foundrank.data.errors import UserError

    __version__: str

__all__ = ["UserError", "__version__"]

_MODULE_OF = {"UserError": "foundrank.data.errors"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # it takes longer to import than all else here

        return version("foundrank")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'foundrank' has no attribute {name!r}", name=name, obj=None)
    found = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
