"""How it runs on R ranks: plan, train, checkpoint, evaluate, score, embed, and the command line."""

import sys

# `python -m foundrank...` looks for all modules in the working folder first: a project's own statistics.py, or one that came with
# somebody's data, would run in place of the library's. While -m looks for its module, that is the first argument.
if sys.argv[0] == "-m" and not sys.flags.safe_path and "foundrank" in sys.orig_argv[-len(sys.argv)]:
    del sys.path[0]
