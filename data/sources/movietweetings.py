"""MovieTweetings (Dooms et al., CrowdRec 2013): film ratings tweeted from February to September 2013."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.sections.domains import SPLITS
from ..storage.new_folder import new_folder
from .histories_and_negatives import earlier, histories, means, temporal_splits
from .source_files import INTEGER, TEXT, TIME, encode, find_rows, read_source, write_events, write_table

HOME = "the MovieTweetings 100K snapshot (movies.parquet and ratings.parquet)"
FILES = {
    "ratings": {"user_id": INTEGER, "movie_id": INTEGER, "rating": INTEGER, "timestamp": TIME},
    "movies": {"movie_id": INTEGER, "title": TEXT, "genres": TEXT, "year": INTEGER},
}
NULLS = {"genres"}
LIKED = 8  # of 10; about half of the ratings
NEW_SINCE = 2012  # in the cinemas, or just out of them, when the tweets were written


def import_movietweetings(src: Path, out: Path, seed: int = 2026) -> Path:
    """Turn MovieTweetings into an experiment of two recommendation domains.

    Domains: ``new_films`` (released 2012 or later) and ``library`` (older), which share the users. Task ``liked``:
    rating >= 8 of 10. Every rating is one row, so nothing is sampled and no negative is made up. Splits: by time over
    the whole log, 80 % train, 10 % validation, 10 % test. History: the films the user liked strictly before, from both
    domains. ``user_mean`` and ``user_ratings`` look strictly back too. Of a film nothing is given but its catalog row,
    so that a film never seen in training is really unknown.

    Args:
        src: folder with ``ratings.parquet`` (user_id, movie_id, rating, timestamp) and ``movies.parquet`` (movie_id,
            title, genres with ``|`` between them, year).
        out: folder to write; new or empty.
        seed: the experiment's seed.

    Returns:
        Path of ``out/experiment.yaml``.

    Raises:
        UserError: a file or column is missing from ``src``, a rated film has no catalog row, or ``out`` is not empty.
    """
    src, out = Path(src), Path(out)
    with new_folder(out, last="experiment.yaml") as folder:
        source = read_source(src, FILES, NULLS, HOME)
        write_table(folder / "catalogs" / "movies.parquet", _catalog(source["movies"]))
        events, year = _events(source["ratings"].sort_by("timestamp"), source["movies"], src)
        splits = temporal_splits(events["timestamp"].cast(pa.int64()).to_numpy())
        is_new = year >= NEW_SINCE
        new_films = events.append_column("release_year", pa.array(year))
        library = events.append_column("decade", pa.array(year // 10 * 10))
        for domain, table, inside in (("new_films", new_films, is_new), ("library", library, ~is_new)):
            for number, split in enumerate(SPLITS):
                write_events(folder, domain, split, table.filter(pa.array(inside & (splits == number))))
        (folder / "experiment.yaml").write_text(_YAML.format(seed=seed), encoding="utf-8")
    return out / "experiment.yaml"


def _catalog(movies: pa.Table) -> pa.Table:
    genres = pc.split_pattern(movies["genres"].cast(pa.string()), "|")
    return movies.set_column(movies.column_names.index("genres"), "genres", genres)


def _events(ratings: pa.Table, movies: pa.Table, src: Path) -> tuple[pa.Table, np.ndarray]:
    """Rows of both domains in the order given, and the year each row's film was released in."""
    where = f"{src / 'ratings.parquet'}: column 'movie_id'"
    year = movies["year"].to_numpy()[find_rows(ratings["movie_id"], movies["movie_id"], where, HOME)]
    user, _ = encode(ratings["user_id"])
    time = ratings["timestamp"].cast(pa.int64()).to_numpy()
    rating = ratings["rating"].to_numpy()
    liked = rating >= LIKED
    films = ratings["movie_id"].combine_chunks()
    order, begin, end = earlier(user, time, user, time)
    utc = ratings["timestamp"]
    return pa.table(
        {
            "user_id": ratings["user_id"],
            "movie_id": films,
            "timestamp": utc,
            "rating": ratings["rating"],
            "liked": pa.array(liked.astype(np.int8)),
            "history": histories(user[liked], time[liked], films.filter(pa.array(liked)), user, time),
            "user_mean": means(rating, order, begin, end),
            "user_ratings": pa.array(end - begin),
            "hour": pc.hour(utc),
            "weekday": pc.day_of_week(utc),
        }
    ), year


_YAML = """\
# MovieTweetings: who likes which film? Written by `foundrank import movietweetings`.
# One row per rating tweeted between February and September 2013; nothing sampled, no made-up negatives.
# Splits by time over the whole log: the first 80 % train, the next 10 % validation, the last 10 % test.
name: movietweetings
seed: {seed}

entities:
  user:
    id: user_id
    history:
      column: history           # the last 30 films the user liked strictly before this rating, from both domains
    features:                   # what the user's ratings before this one say of his scale
      user_mean: {{kind: dense}}                       # their mean, 0 to 10; null at the first
      user_ratings: {{kind: dense, transform: log1p}}  # how many
  item:
    id: movie_id
    catalog: {{path: catalogs/movies.parquet, key: movie_id}}
    text: "{{title}} {{genres}} {{year}}"
    features:
      genres: {{kind: list}}

context:
  hour: {{kind: categorical}}     # UTC
  weekday: {{kind: categorical}}  # 0: Monday

model:
  rates: true      # of films and users in earlier ratings
  id_dropout: 0.3  # a fifth of the test rows are of new films, so the other aspects must stand alone
  dropout: 0.2

training: {{batch_size: 512}}

domains:
  new_films:                    # released in 2012 or later
    kind: recommendation
    events:
      train: events/new_films/train/*.parquet
      validation: events/new_films/validation/*.parquet
      test: events/new_films/test/*.parquet
    time: timestamp             # a rating's rates are of earlier ratings
    tasks:
      liked: {{label: liked}}     # rating >= 8 of 10
    features:
      release_year: {{kind: categorical, entity: item}}
    list_column: user_id        # NDCG@10: how well a user's own films of this split are ordered
  library:                      # older films
    kind: recommendation
    events:
      train: events/library/train/*.parquet
      validation: events/library/validation/*.parquet
      test: events/library/test/*.parquet
    time: timestamp
    tasks:
      liked: {{label: liked}}
    features:
      decade: {{kind: categorical, entity: item}}
    list_column: user_id
"""
