"""How fast RecBole trains its SASRec on Amazon Beauty; run by the Python of an environment that has RecBole, prints a line of JSON.

    PYTHON benchmarks/recbole_sasrec.py INTERACTIONS.parquet FOLDER STEPS

Each of its samples is one item to be found after a prefix of a user's past, as its data loader makes them.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd  # pyright: ignore[reportMissingImports]
import pyarrow.parquet as pq
import recbole  # pyright: ignore[reportMissingImports]
import torch
from recbole.config import Config  # pyright: ignore[reportMissingImports]
from recbole.data import create_dataset, data_preparation  # pyright: ignore[reportMissingImports]
from recbole.model.sequential_recommender import SASRec  # pyright: ignore[reportMissingImports]
from recbole.utils import init_seed  # pyright: ignore[reportMissingImports]

BATCH, WARM_UP = 768, 5  # about as many items to be found as foundrank's 128 users have

source, folder, steps = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
sys.argv = sys.argv[:1]  # RecBole reads the command line too
np.float_ = np.float64  # what this RecBole still calls by names that NumPy has given up
(folder / "beauty").mkdir(parents=True, exist_ok=True)
columns = {"user_id": "user_id:token", "item_id": "item_id:token", "position": "timestamp:float"}
table = pq.read_table(source)
events = pd.DataFrame({new: table[old].to_numpy() for old, new in columns.items()})
events.to_csv(folder / "beauty" / "beauty.inter", sep="\t", index=False)
config = Config(
    model="SASRec",
    dataset="beauty",
    config_dict={
        "data_path": str(folder),
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "MAX_ITEM_LIST_LENGTH": 50,
        "hidden_size": 64,
        "inner_size": 256,
        "n_layers": 2,
        "n_heads": 2,
        "hidden_dropout_prob": 0.3,
        "attn_dropout_prob": 0.3,
        "loss_type": "CE",  # against all items
        "train_neg_sample_args": None,
        "train_batch_size": BATCH,
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
    },
)
init_seed(config["seed"], True)
dataset = create_dataset(config)
train, _, _ = data_preparation(config, dataset)
model = SASRec(config, train.dataset)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
model.train()
started, samples = 0.0, 0
for step, batch in enumerate(train):
    if step == WARM_UP:
        started, samples = time.perf_counter(), 0
    optimizer.zero_grad()
    model.calculate_loss(batch).backward()
    optimizer.step()
    samples += len(batch)
    if step == WARM_UP + steps:
        break
print(json.dumps({"targets_per_s": samples / (time.perf_counter() - started), "version": recbole.__version__}))
