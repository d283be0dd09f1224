import os
import subprocess
import sys

import pytest

JOB = """
import resource
import torch
from foundrank.dist.ranks.runtime import start

def faults():
    began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        blocks = [torch.ones(5 << 20) for _ in range(4)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began

faults()
usual = faults()
with start():
    faults()
    print(usual, faults())
"""


def test_freed_memory_is_kept_for_what_comes_next():
    """Four blocks of 20 MB, ten times: 200,000 pages, were they given back."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC")}
    done = subprocess.run([sys.executable, "-c", JOB], capture_output=True, text=True, check=True, env=environment)
    usual, kept = map(int, done.stdout.split())
    if usual < 50_000:
        pytest.skip("this system takes no memory back, or has huge pages")
    assert kept < usual / 10


OF_TWO_THREADS = """
import resource
from threading import Thread
import torch
from foundrank.dist.ranks.runtime import start

def touch():
    blocks = [torch.ones(1 << 20) for _ in range(20)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

with start():
    began = faults()
    thread = Thread(target=touch)
    thread.start()
    thread.join()
    between = faults()
    touch()
    print(between - began, faults() - between)
"""


def test_what_one_thread_frees_another_can_use():
    """Twenty blocks of 4 MB are 20,000 pages, in which most of the main thread's then fit, under load not always all of them."""
    done = subprocess.run([sys.executable, "-c", OF_TWO_THREADS], capture_output=True, text=True, check=True)
    of_thread, of_main = map(int, done.stdout.split())
    assert of_main < of_thread / 2
