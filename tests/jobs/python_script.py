"""A user's script: trains, evaluates and scores, alone, on ranks of its own, or as one of torchrun's.

``python_script.py WORLD RUN PROCESSES``
"""

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq

import foundrank

TINY = {
    "model": {
        "embedding_dim": 8,
        "width": 16,
        "domain_width": 16,
        "experts": 2,
        "expert_widths": [16, 8],
        "tower_widths": [8],
    },
    "training": {"batch_size": 128, "log_every": 1, "max_steps": 6, "epochs": 1},
    "text": {"vectors": "none"},
}

if __name__ == "__main__":  # ranks import this file, too
    world, folder, processes = sys.argv[1:]
    experiment = foundrank.load_experiment(world, **TINY)
    run = foundrank.train(experiment, folder, processes=int(processes))
    measured = foundrank.evaluate(run, processes=1)
    table = pq.read_table(Path(world, "events", "shop_feed", "test")).slice(0, 50)
    scores = foundrank.load(run).score(table, "shop_feed")
    print(
        json.dumps([[row["loss"] for row in run.metrics()], len(measured["rows"]), scores["score_click"].to_pylist()])
    )
