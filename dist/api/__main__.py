"""``python -m foundrank``: the command line, for debuggers, editors and images that start modules."""

from foundrank.dist.cli.main import main

main()
