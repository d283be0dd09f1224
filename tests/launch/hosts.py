"""Two hosts on one machine: namespaces with a network, a name and a hosts file of their own, and a cable between them."""

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
    """One of the two."""

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

    def bytes_received(self) -> int:
        """What has come through the cable."""
        [link] = json.loads(_ip("-n", self.name, "-s", "-j", "link", "show", INTERFACE))
        return link["stats64"]["rx"]["bytes"]


@contextmanager
def two_hosts(folder: Path, own_names_are_local: bool = False) -> Iterator[tuple[Host, Host]]:
    """Two hosts; skips the test where they cannot be made.

    Args:
        folder: of their hosts files.
        own_names_are_local: each knows its own name as 127.0.1.1, as Debian's installer writes it.
    """
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    if shutil.which("ip") is None:
        pytest.skip("network namespaces need iproute2")
    names = [f"host{os.getpid()}{letter}" for letter in "ab"]
    addresses = dict(zip(names, ("10.213.7.1", "10.213.7.2"), strict=True))
    try:
        for name in names:
            made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        one, other = names
        _ip("-n", one, "link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE, "netns", other)
        for name, address in addresses.items():
            _ip("-n", name, "address", "add", f"{address}/24", "dev", INTERFACE)
            for link in ("lo", INTERFACE):
                _ip("-n", name, "link", "set", link, "up")
            known = addresses | ({name: "127.0.1.1"} if own_names_are_local else {})
            lines = ["127.0.0.1 localhost", *(f"{where} {host}" for host, where in known.items())]
            (folder / f"{name}.hosts").write_text("\n".join(lines) + "\n")
        yield Host(one, folder / f"{one}.hosts"), Host(other, folder / f"{other}.hosts")
    finally:
        for name in names:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
            for pid in pids.stdout.split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout
