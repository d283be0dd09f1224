"""Hosts on one machine: namespaces with a network, a name and a hosts file of their own, and cables to a switch between them."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

INTERFACE = "eth0"  # the cable's end, on each host


@dataclass(frozen=True)
class Host:
    """One of them."""

    name: str
    hosts_file: Path

    def start(self, command: Sequence[str], environment: Mapping[str, str], said: Path) -> subprocess.Popen:
        """Starts a command there, which writes to the file ``said``."""
        enter = 'hostname "$0" && mount --bind "$1" /etc/hosts && shift && exec "$@"'
        words = ["ip", "netns", "exec", self.name, "unshare", "--uts", "--mount", "sh", "-c", enter, self.name]
        with said.open("w") as file:
            return subprocess.Popen(
                [*words, str(self.hosts_file), *command], env=environment, stdout=file, stderr=subprocess.STDOUT
            )

    def slow_down(self, megabits: int) -> None:
        """Lets it send so many megabits a second."""
        shape = ["root", "tbf", "rate", f"{megabits}mbit", "burst", "32kb", "latency", "400ms"]
        _run("ip", "netns", "exec", self.name, "tc", "qdisc", "add", "dev", INTERFACE, *shape)

    def bytes_received(self) -> int:
        """What has come through the cable."""
        [link] = json.loads(_ip("-n", self.name, "-s", "-j", "link", "show", INTERFACE))
        return link["stats64"]["rx"]["bytes"]


@contextmanager
def hosts_on_a_switch(folder: Path, count: int = 2, own_names_are_local: bool = False) -> Iterator[list[Host]]:
    """Some hosts; skips the test where they cannot be made.

    Args:
        folder: of their hosts files.
        count: how many.
        own_names_are_local: each knows its own name as 127.0.1.1, as Debian's installer writes it.
    """
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need iproute2")
    names = [f"host{os.getpid()}{letter}" for letter in "abcdefgh"[:count]]
    addresses = {name: f"10.213.7.{number}" for number, name in enumerate(names, 1)}
    switch = f"host{os.getpid()}switch"
    try:
        for name in (*names, switch):
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        _ip("-n", switch, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch, "link", "set", "bridge", "up")
        for number, (name, address) in enumerate(addresses.items()):
            port = f"port{number}"
            _ip("-n", name, "link", "add", INTERFACE, "type", "veth", "peer", "name", port, "netns", switch)
            _ip("-n", switch, "link", "set", port, "master", "bridge", "up")
            _ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            for link in ("lo", INTERFACE):
                _ip("-n", name, "link", "set", link, "up")
            known = addresses | ({name: "127.0.1.1"} if own_names_are_local else {})
            lines = ["127.0.0.1 localhost", *(f"{where} {host}" for host, where in known.items())]
            (folder / f"{name}.hosts").write_text("\n".join(lines) + "\n")
        yield [Host(name, folder / f"{name}.hosts") for name in names]
    finally:
        for name in (*names, switch):
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            for pid in pids.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(*words: str) -> str:
    return _run("ip", *words)


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout
