"""``python -m foundrank.dist.cli``, which needs no script on the path: launchers and TorchX use it."""

from .main import main

main()
