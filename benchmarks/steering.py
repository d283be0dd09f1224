"""Whether a preference before the past steers what a user is recommended, and codes of users beside it, into docs/results/results.md.

    python -m benchmarks.steering --data amazon-office --source ../shared/data/amazon_office --seeds 3
    python -m benchmarks.steering --data amazon-beauty --source ../shared/data/amazon_beauty --seeds 1 --arms cut --epochs 6

Preferences are made of pasts, as examples/preferences_from_pasts.py does. Each user of the test split gets 10 items with a preference of its own, with another user's
and with none; an item counts for one of the two where its title is nearer to it by the cosine of their vectors. What is done in WORK is kept; run again, it goes on.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from numpy.typing import NDArray

from foundrank import load
from foundrank.data.config.sections.text import TextConfig
from foundrank.dist.compare.intervals import REPLICATES, interval_of_difference
from foundrank.dist.compare.resampling import drawn_users
from foundrank.dist.study.markdown_sections import write_section
from foundrank.model.contents import ENCODERS

from .jobs import Out, Source, Work, assigned, compared, run_foundrank

K = 10
_PREFIX = "model.history.prefix=[preference]"
ARMS = {
    "without": ("any", ()),
    "cut": ("cut", (_PREFIX, "model.history.prefix_dropout=0")),  # half of its rows have no preference
    "any": ("any", (_PREFIX,)),
    "user codes": ("any", ("model.history.prefix=[user]", "entities.user.features={user_code: {kind: categorical}}")),
}
"""Which training rows, and settings."""
STEERED = ("cut", "any")
METRICS = ("hr@10", "ndcg@10")


def steering(
    source: Source,
    data: Annotated[str, typer.Option(help="as `foundrank import` calls it")] = "amazon-office",
    arms: Annotated[str, typer.Option(help="beside the one without a prefix")] = "cut,any,user codes",
    epochs: Annotated[int | None, typer.Option(min=1, help="of every arm; as the experiment has it by default")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="of each arm")] = 3,
    at_a_time: Annotated[int, typer.Option(min=1, help="trainings")] = 2,
    work: Work = Path("runs/steering"),
    out: Out = Path("docs/results/results.md"),
    kept: Annotated[Path, typer.Option(help="JSON file for the figures")] = Path(
        "docs/results/benchmarks/steering.json"
    ),
) -> None:
    """Measures and writes the section; of other data sets, as the file of figures has it."""
    folder, numbers, chosen = work / data, range(1, seeds + 1), arms.split(",")
    if not (folder / "data" / "done").is_file():
        shutil.rmtree(folder / "data", ignore_errors=True)
        run_foundrank("import", data, source, folder / "data")
        run_foundrank("embed", folder / "data")
        subprocess.run([sys.executable, "examples/preferences_from_pasts.py", folder / "data"], check=True)
        (folder / "data" / "done").touch()
    with ThreadPoolExecutor(at_a_time) as pool:
        jobs = [(arm, seed) for seed in numbers for arm in ("without", *chosen)]
        list(pool.map(lambda job: _trained(folder, *job, epochs), jobs))
    found = {
        "epochs": epochs,
        "seeds": seeds,
        "steered": {arm: _steered(folder, arm, numbers) for arm in chosen if arm in STEERED},
        "compared": {arm: _compared(folder, arm, numbers) for arm in chosen},
    }
    written = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
    written[data] = found
    kept.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    write_section(out, "steering", section(written))


def _run(folder: Path, arm: str, seed: int) -> Path:
    return folder / f"{arm.replace(' ', '_')}-{seed}"


def _trained(folder: Path, arm: str, seed: int, epochs: int | None) -> None:
    run, (rows, of_arm) = _run(folder, arm, seed), ARMS[arm]
    if (run / "evaluation.json").is_file():
        return
    (domain,) = (each.name for each in (folder / "data" / "events").iterdir())
    splits = {"train": rows, "validation": "validation", "test": "test"}
    changes = [f"domains.{domain}.events.{split}=preferences/{of}/*.parquet" for split, of in splits.items()]
    changes += ["entities.user.contents={preference: {vector: preference, size: 384, source: events}}"]
    changes += [] if epochs is None else [f"training.epochs={epochs}"]
    asked = assigned((*changes, *of_arm, f"seed={seed}"))
    run_foundrank("train", folder / "data", "--run-dir", run, "-p", 1, *asked, threads=1)
    run_foundrank("evaluate", run, "-p", 1, "--predictions", threads=1)


def _compared(folder: Path, arm: str, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Against the arm without a prefix, of rows without a preference, as `foundrank compare` says."""
    file = folder / f"{arm.replace(' ', '_')}-against-without-{len(seeds)}.json"
    arms = {of.replace(" ", "_"): [_run(folder, of, seed) for seed in seeds] for of in ("without", arm)}
    return [row for row in compared(file, arms, threads=1) if row["metric"] in METRICS]


def _steered(folder: Path, arm: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Shares of items that are nearer to the right preference, by what was said, means over seeds; and the difference that it makes."""
    file = folder / f"{arm}-steered-{len(seeds)}.json"
    if not file.is_file():
        shares = [_shares(folder, _run(folder, arm, seed)) for seed in seeds]
        of_each = {said: np.stack([of[said] for of in shares]) for said in shares[0]}
        users = of_each["right"].shape[1]

        def drawn(said: str) -> NDArray[np.float64]:
            return np.concatenate([of_each[said] @ w.T / users for w in drawn_users(users, REPLICATES, 0)], 1)

        means = {said: of.mean(1).tolist() for said, of in of_each.items()}
        intervals = {
            other: interval_of_difference(drawn("right"), drawn(other), users, paired=True)
            for other in ("wrong", "none")
        }
        file.write_text(json.dumps({"users": users, "means": means, "intervals": intervals}) + "\n", encoding="utf-8")
    return json.loads(file.read_text(encoding="utf-8"))


def _shares(folder: Path, run: Path) -> dict[str, NDArray[np.float64]]:
    """What was said -> ``[U]``, of each user's 10 items the share that is nearer to its own preference than to another user's."""
    users = pq.read_table(folder / "data" / "preferences" / "test")
    items = pq.read_table(folder / "data" / "catalogs" / "items.parquet", columns=["item_id", "title"])
    vectors = ENCODERS["llm"](TextConfig(), None).encode([of or "" for of in items["title"].to_pylist()]).vectors
    place = {item: at for at, item in enumerate(items["item_id"].to_pylist())}
    right = np.array(users["said"].to_pylist(), np.float32)
    wrong = np.roll(right, len(right) // 2, 0)
    model, nearer = load(run), {}
    for said, vector in (("right", right), ("wrong", wrong), ("none", None)):
        asked = users.select(["user_id", "history"])
        if vector is not None:
            asked = asked.append_column("preference", pa.array(list(vector), pa.list_(pa.float32())))
        lists = model.recommend(asked, k=K)["items"].to_pylist()
        seen = [vectors[[place[item] for item in of]] for of in lists]
        nearer[said] = np.array([(of @ (r - w) > 0).mean() for of, r, w in zip(seen, right, wrong, strict=True)])
    return nearer


def section(written: Mapping[str, Any]) -> str:
    """Markdown of the figures."""
    lines = [
        "## A preference before the past\n",
        "    python -m benchmarks.steering --data amazon-office --source ../shared/data/amazon_office --seeds 3",
        "    python -m benchmarks.steering --data amazon-beauty --source ../shared/data/amazon_beauty --seeds 1 --arms cut --epochs 6\n",
        "Of the 10 items of each user of the test split, the share whose title is nearer to the user's own preference than to another user's: with the right one said, with that",
        "other one, and with none; means over seeds, and the difference between right and wrong with its 95 % interval over users and seeds. `cut`: preferences in training are of",
        "the older half of a past, which is cut off, so that whatever is to be found came later. `any`: of any past item, which earlier places learn to find in hindsight.\n",
        "| | rows for training | seeds | users | right | wrong | none | right - wrong |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    named = {
        data: data if of.get("epochs") is None else f"{data}, {of['epochs']} epochs" for data, of in written.items()
    }
    for data, of in written.items():
        for arm, told in of["steered"].items():
            mean = {said: float(np.mean(values)) for said, values in told["means"].items()}
            low, high = told["intervals"]["wrong"]
            lines.append(
                f"| {named[data]} | `{arm}` | {of['seeds']} | {told['users']:,} | {mean['right']:.3f} | {mean['wrong']:.3f} | {mean['none']:.3f} | "
                f"{mean['right'] - mean['wrong']:+.3f} [{low:+.3f}, {high:+.3f}] |"
            )
    lines += [
        "\nWithout a preference, against the same model without a prefix, and with the code of the user (the cluster of its past's mean vector, of 64) as a place before the past; the test split.",
        "Intervals of one seed are over users alone. `cut` has about twice the rows, and so the steps, in an epoch: what it gains with nothing said may be the steps'.\n",
        "| | prefix | seeds | metric | without a prefix | with it | difference |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for data, of in written.items():
        for arm, rows in of["compared"].items():
            name = "user codes" if arm == "user codes" else f"`{arm}`, nothing said"
            lines += [
                f"| {named[data]} | {name} | {of['seeds']} | {row['metric']} | {row['first']:.4f} | {row['other']:.4f} | "
                f"{row['difference']:+.4f} [{row['low']:+.4f}, {row['high']:+.4f}] |"
                for row in rows
            ]
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(steering)
