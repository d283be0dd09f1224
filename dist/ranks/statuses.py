"""Exit statuses: what every command, every rank and the first process of a container leave with."""

import signal

DONE = 0

FAULT = 1
"""A rank or the command itself failed, and it is not known why: a traceback tells."""

MISTAKE = 2
"""In what the user gave: told in one paragraph, with the remedy. The same command would fail again."""

THRESHOLD = 3
"""Done and written, but a threshold that the user gave is passed."""

TRY_AGAIN = 75
"""Asked to stop, or another job is at work in the same folder; run again, it goes on. EX_TEMPFAIL of sysexits.h."""

INTERRUPTED = 128 + signal.SIGINT
"""After Ctrl-C, as a shell says it."""
