"""Disturbs real commands at random moments and checks that nothing is lost, into docs/results/reliability.md.

    python -m tests.chaos.chaos --injections 200

Jobs take turns, two at a time. The first thing that does not hold ends it, with the seed that shows it again.
"""

import random
import shutil
import subprocess
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from foundrank.dist.study.markdown_sections import write_section

from .faults import Broken, Disk
from .jobs import CLOCK, DAMAGE, JOBS, Bench

AT_ONCE = 2
STRIKES = 4  # faults of one job, before it is left in peace


def chaos(
    injections: Annotated[int, typer.Option(min=1, help="at least so many faults")] = 200,
    seed: Annotated[int, typer.Option(help="of kinds and moments")] = 0,
    out: Annotated[Path, typer.Option(help="Markdown file with the table's place in it")] = Path(
        "docs/results/reliability.md"
    ),
) -> None:
    """Disturbs, checks, and writes the table."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        chains = -(-injections // STRIKES)
        # Half of them train, a first time or further: they have the most to lose.
        names = [("train", "embed", "update", "score")[number % 4] for number in range(chains)]

        def one(number: int) -> tuple[str, Counter[str]]:
            done = disturb(bench, names[number], seed + number, STRIKES)
            print(f"{number + 1} of {chains}: {names[number]}: {dict(done)}", flush=True)
            return names[number], done

        with ThreadPoolExecutor(AT_ONCE) as threads:
            found = list(threads.map(one, range(chains)))
    write_section(out, "chaos", table(found, seed))


def disturb(bench: Bench, job: str, seed: int, strikes: int) -> Counter[str]:
    """One job, disturbed several times and then left in peace; how often what was done to it.

    Raises:
        Broken: something did not hold, with the seed in its words; what was written stays where it says.
    """
    work = bench.folder / f"{job}-{seed}"
    work.mkdir()
    disk = _disk(work)
    try:
        done = JOBS[job](bench, work, random.Random(seed), strikes, disk)
    except Broken as error:
        kept = Path(tempfile.mkdtemp(prefix="chaos-")) / work.name
        shutil.copytree(work, kept)
        raise Broken(f"{job}, seed {seed}, kept in {kept}: {error}") from error
    finally:
        if disk is not None:
            disk.remove()
    shutil.rmtree(work)
    return done


def _disk(folder: Path) -> Disk | None:
    """A disk on a folder; None where nothing may be mounted, as in most containers."""
    try:
        return Disk(folder)
    except (subprocess.CalledProcessError, OSError):
        return None


def table(found: list[tuple[str, Counter[str]]], seed: int) -> str:
    """Counts of faults per job, as Markdown."""
    totals = {job: sum((done for name, done in found if name == job), Counter()) for job in JOBS}
    faults = sorted({fault for done in totals.values() for fault in done})
    everything = sum(sum(done.values()) for done in totals.values())
    injected = everything - sum(done[DAMAGE] + done[CLOCK] for done in totals.values())
    lines = [f"| {fault} | " + " | ".join(str(totals[job][fault]) for job in JOBS) + " |" for fault in faults]
    sums = " | ".join(str(sum(totals[job].values())) for job in JOBS)
    jobs = " | ".join(f"{job} ({sum(name == job for name, _ in found)} jobs)" for job in JOBS)
    return f"""### Injected so far

    python -m tests.chaos.chaos --injections {injected} --seed {seed}

| what was done | {jobs} |
| --- | {" | ".join("---:" for _ in JOBS)} |
{chr(10).join(lines)}
| all {everything} | {sums} |

After each of them: no row lost or repeated, no checkpoint that could not be used, nothing that hangs, no partial file, and
results equal to those of undisturbed jobs.
"""


if __name__ == "__main__":
    typer.run(chaos)
