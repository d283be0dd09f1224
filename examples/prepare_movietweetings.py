"""MovieTweetings ratings become foundrank events, with nothing but pyarrow and NumPy.

python examples/prepare_movietweetings.py SOURCE OUT     SOURCE holds ratings.parquet and movies.parquet
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

source, out = Path(sys.argv[1]), Path(sys.argv[2])
ratings = pq.read_table(source / "ratings.parquet").sort_by([("user_id", "ascending"), ("timestamp", "ascending")])
user, film, time = (ratings[name].cast(pa.int64()).to_numpy() for name in ("user_id", "movie_id", "timestamp"))

# The label: 0, 1 or null.
liked = ratings["rating"].to_numpy() >= 8
ratings = ratings.append_column("liked", pa.array(liked.astype(np.int8)))

# The history: the user's last 30 liked films strictly before this rating, oldest first.
moments, moment = np.unique(time, return_inverse=True)
key = user * len(moments) + moment
end = np.searchsorted(key[liked], key)
begin = np.maximum(np.searchsorted(user[liked], user), end - 30)
offsets = np.concatenate([[0], np.cumsum(end - begin)])
past = film[liked][np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], end - begin)]
ratings = ratings.append_column("history", pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(past)))

# The splits: by time, so that the test is about the future.
split = np.searchsorted(np.quantile(time, [0.8, 0.9]), time, side="right")
for number, name in enumerate(("train", "validation", "test")):
    (out / "events" / name).mkdir(parents=True, exist_ok=True)
    rows = ratings.filter(pa.array(split == number))
    pq.write_table(rows, out / "events" / name / "part-0.parquet", row_group_size=10_000)

# The catalog: one row per film, as it is.
pq.write_table(pq.read_table(source / "movies.parquet"), out / "movies.parquet")
