"""Terminals, pipes and locales that take less than is printed."""

import os
import subprocess
from pathlib import Path

from .commands import COMMAND, ENVIRONMENT


def test_output_may_be_cut_off(world: Path):
    """As by head, which closes its end of the pipe."""
    for arguments in (["schema"], ["describe", str(world)]):
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [*COMMAND, *arguments], env=ENVIRONMENT, stdout=writer, stderr=subprocess.PIPE, timeout=60
        )
        os.close(writer)
        assert done.returncode in (1, 141)
        assert done.stderr == b""


def test_a_locale_without_the_characters_is_no_fault(world: Path):
    plain = ENVIRONMENT | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([*COMMAND, "describe", str(world)], env=plain, capture_output=True, timeout=60, check=True)
    assert b"shop_feed" in done.stdout
    assert done.stdout.isascii()
    assert done.stderr == b""
