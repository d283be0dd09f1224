"""Amazon product search, Cell Phones & Accessories (Ai et al., SIGIR 2017; McAuley's reviews, entities of PGPR)."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.sections.domains import SPLITS
from ..storage.new_folder import new_folder
from .histories_and_negatives import HISTORY_LENGTH, NONE, Pools, as_lists, pair_refuser
from .source_files import INTEGER, TEXT, encode, find_rows, read_source, write_events, write_table

HOME = "the Cell Phones search benchmark of Amazon-Product-Search-Datasets (search_train, search_test, items, queries)"
FILES = {
    "search_train": {"user_id": TEXT, "query_id": INTEGER, "asin": TEXT},
    "search_test": {"user_id": TEXT, "asin": TEXT},
    "queries": {"query_id": INTEGER, "query": TEXT},
    "items": {"asin": TEXT, "brand": TEXT, "categories": pa.list_(TEXT)},
}
NULLS = {"brand"}
COLD_ITEMS = 0.05  # share of the items kept out of training
HARD = {"search": 2, "recommendation": 0}  # negatives from items bought under the same query
EASY = {"search": 2, "recommendation": 4}  # negatives from all items


def import_amazon_search(src: Path, out: Path, seed: int = 2026) -> Path:
    """Turn the Amazon search benchmark into a search and a recommendation domain over the same users and items.

    Domains: ``search`` (a user, the query and what was bought) and ``recommendation`` (the same purchases, each user
    and item once, without the query). Task ``purchase``: 1 bought, 0 a negative.

    Splits: there is no time. Each distinct (user, item) pair falls at random into train (80 %), validation or test
    (10 % each), the same in both domains, so that neither gives away the other's labels. Besides, 5 % of the items are
    kept out of training: all their purchases are test. The 667 rows of ``search_test`` are not rows here (they are
    purchases of 84 items only, chosen by another rule), but never negatives either.

    Negatives: four a purchase, none bought by the user in any split. ``search``: two from the items bought under the
    same query (from all, where there is no other) and two from all items; ``recommendation``: four from all. Which
    kind, an item known from training or one that is not, is drawn first, with the share that kind has among the
    split's purchases (of that query); then each item of the kind is equally likely. So being cold says nothing, and
    popularity tells known items apart. A purchase and its negatives are one list and share their history.

    History: the user's training purchases without the list's own, in an order drawn once per user.

    Args:
        src: folder with ``search_train.parquet``, ``search_test.parquet``, ``items.parquet``, ``queries.parquet``.
        out: folder to write; new or empty.
        seed: of splits, cold items, negatives and orders; also the experiment's.

    Returns:
        Path of ``out/experiment.yaml``.

    Raises:
        UserError: a file or column is missing from ``src``, an item or query has no catalog row, or ``out`` is not
            empty.
    """
    src, out = Path(src), Path(out)
    with new_folder(out, last="experiment.yaml") as folder:
        source = read_source(src, FILES, NULLS, HOME)
        rng = np.random.default_rng(seed)
        bought, items, queries = source["search_train"], source["items"], source["queries"]
        user, users = encode(bought["user_id"])
        item = find_rows(bought["asin"], items["asin"], f"{src / 'search_train.parquet'}: column 'asin'", HOME)
        where = f"{src / 'search_train.parquet'}: column 'query_id'"
        query = find_rows(bought["query_id"], queries["query_id"], where, HOME)

        pairs, pair_of = np.unique(user * len(items) + item, return_inverse=True)
        pair_user, pair_item = pairs // len(items), pairs % len(items)
        split = _splits(rng, pair_item)
        seen = np.zeros(len(items), bool)
        seen[pair_item[split == 0]] = True
        is_bought = _bought(source["search_test"], users, items, pair_user, pair_item)
        training = rng.permutation(np.flatnonzero(split == 0))
        for domain in HARD:
            rows = rng.permutation(len(bought) if domain == "search" else len(pairs))
            pair = pair_of[rows] if domain == "search" else rows
            group = query[rows] if domain == "search" else np.zeros(len(rows), np.int64)
            negatives = _negatives(rng, domain, pair_user[pair], pair_item[pair], group, split[pair], seen, is_bought)
            at, product, label = as_lists(rng, pair_item[pair], negatives)
            columns = {
                "user_id": users.take(pa.array(pair_user[pair][at])),
                "asin": items["asin"].take(pa.array(product)),
                "list_id": pa.array(at),
                "purchase": pa.array(label.astype(np.int8)),
                **_past(pair_user, pair_item, training, pair, at, product, items),
            }
            if domain == "search":
                asked = pa.array(query[rows][at])
                columns["query_id"] = queries["query_id"].take(asked)
                columns["query_words"] = pc.split_pattern(queries["query"].cast(pa.string()), " ").take(asked)
            table = pa.table(columns)
            for number, name in enumerate(SPLITS):
                write_events(folder, domain, name, table.filter(pa.array(split[pair][at] == number)))
        write_table(folder / "catalogs" / "items.parquet", _item_catalog(items))
        write_table(folder / "catalogs" / "queries.parquet", queries)
        (folder / "experiment.yaml").write_text(_YAML.format(seed=seed), encoding="utf-8")
    return out / "experiment.yaml"


def _splits(rng: np.random.Generator, pair_item: np.ndarray) -> np.ndarray:
    """``[P]``: 0 train, 1 validation, 2 test, of each (user, item) pair."""
    split = np.searchsorted([0.8, 0.9], rng.random(len(pair_item)), side="right")
    distinct = np.unique(pair_item)
    cold = rng.choice(distinct, max(1, round(COLD_ITEMS * len(distinct))), replace=False)
    split[np.isin(pair_item, cold)] = 2
    return split


def _bought(search_test: pa.Table, users: pa.Array, items: pa.Table, pair_user, pair_item):
    """A function of (users, items) telling which pairs are purchases, the official test's among them."""
    user = pc.index_in(search_test["user_id"], value_set=users)
    item = pc.index_in(search_test["asin"], value_set=items["asin"].combine_chunks())
    known = pc.and_(pc.is_valid(user), pc.is_valid(item))
    more_users, more_items = user.filter(known).to_numpy(), item.filter(known).to_numpy()
    return pair_refuser(np.concatenate([pair_user, more_users]), np.concatenate([pair_item, more_items]))


def _negatives(rng, domain: str, user, item, group, split, seen, is_bought) -> np.ndarray:
    """``[N, 4]`` items, `NONE` where there is none.

    Args:
        rng: source of randomness.
        domain: ``search`` or ``recommendation``.
        user, item, group, split: ``[N]`` int64, of each positive; ``group`` is its query.
        seen: ``[items]`` bool, which are bought in training.
        is_bought: tells which (user, item) pairs are purchases.
    """

    def drawer(group: np.ndarray):
        # A pool holds the known items of a group, or those of one of its splits that training does not know.
        cell = group * len(SPLITS) + split
        pools = Pools(np.where(seen[item], group * len(SPLITS), cell), item)
        unseen_share = np.bincount(cell, ~seen[item]) / np.maximum(np.bincount(cell), 1)

        def draw(taken: np.ndarray) -> np.ndarray:
            unseen = rng.random(len(cell)) < unseen_share[cell]
            pool = np.where(unseen, cell, group * len(SPLITS))
            return pools.draw(rng, pool, taken, lambda rows, items: is_bought(user[rows], items))

        return draw

    draw_hard, draw_easy = drawer(group), drawer(np.zeros_like(group))
    negatives = np.empty((len(user), 0), np.int64)
    for number in range(HARD[domain] + EASY[domain]):
        drawn = draw_easy(negatives)
        if number < HARD[domain]:
            hard = draw_hard(negatives)
            drawn = np.where(hard == NONE, drawn, hard)
        negatives = np.column_stack([negatives, drawn])
    return negatives


def _past(pair_user, pair_item, training, pair, at, product, items: pa.Table) -> dict:
    """What the user's training purchases, without the list's own, say: history and counts of like products.

    Args:
        pair_user, pair_item: ``[P]`` int64, the distinct purchases.
        training: ``[T]`` int64, those of training, in the order histories show them.
        pair: ``[N]`` int64, the purchase of each list.
        at: ``[M]`` int64, the list of each row.
        product: ``[M]`` int64, the item of each row.
        items: the item table.
    """
    training = training[np.argsort(pair_user[training], kind="stable")]
    past_user, past_item = pair_user[training], pair_item[training]
    user, own = pair_user[pair], pair_item[pair]
    is_training = np.isin(pair, training)

    # One more than a history holds, so that it stays full when the list's own purchase is taken out.
    end = np.searchsorted(past_user, user, side="right")
    begin = np.maximum(np.searchsorted(past_user, user), end - HISTORY_LENGTH - 1)
    lengths = end - begin
    owner = np.repeat(np.arange(len(pair)), lengths)
    position = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    past = past_item[position + np.repeat(begin, lengths)]
    other = past != own[owner]
    others = np.bincount(owner[other], minlength=len(pair))
    kept = other & ~((position == 0) & (others[owner] > HISTORY_LENGTH))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner[kept], minlength=len(pair)))])
    asins = items["asin"].combine_chunks().cast(pa.string()).take(pa.array(past[kept]))
    history = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), asins)

    brands = pc.drop_null(pc.unique(items["brand"]))
    brand = pc.fill_null(pc.index_in(items["brand"], value_set=brands), -1).to_numpy().astype(np.int64)

    def like(kind: np.ndarray) -> pa.Array:
        """How many of the list's past purchases are of the row's kind; null where its kind is unknown."""
        span = int(kind.max()) + 2
        bought = np.sort(past_user * span + kind[past_item] + 1)
        wanted = user[at] * span + kind[product] + 1
        count = np.searchsorted(bought, wanted, side="right") - np.searchsorted(bought, wanted)
        count -= is_training[at] & (kind[own[at]] == kind[product])
        return pa.array(count, mask=kind[product] < 0)

    return {
        "history": history.take(pa.array(at)),
        "same_brand": like(brand),
        "same_category": like(encode(_category_path(items))[0]),
    }


def _category_path(items: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.binary_join(items["categories"].cast(pa.list_(pa.string())), " > "), "")


def _item_catalog(items: pa.Table) -> pa.Table:
    return items.append_column("category_path", _category_path(items))


_YAML = """\
# Amazon product search, Cell Phones & Accessories: what does a user buy, with a query and without?
# Written by `foundrank import amazon-search`. The data knows no time.
# Splits: each distinct (user, item) purchase falls at random into train (80 %), validation or test (10 % each), the
# same in both domains. Besides, all purchases of 5 % of the items are test, so these items are cold.
# Negatives: four a purchase, never bought by the user. search: two of the same query, two of all items;
# recommendation: four of all items. Items cold in a split are negatives there as often as they are positives; among
# known items each is equally likely.
name: amazon_search
seed: {seed}

entities:
  user:
    id: user_id
    history:
      column: history  # up to 30 of the user's other training purchases, in no order
  query:
    id: query_id
    catalog: {{path: catalogs/queries.parquet, key: query_id}}
    text: "{{query}}"
  item:
    id: asin
    catalog: {{path: catalogs/items.parquet, key: asin}}
    text: "{{brand}} {{category_path}}"
    features:
      brand: {{kind: categorical}}
      categories: {{kind: list}}

context:  # how many of the user's other training purchases are of the item's brand and category path
  same_brand: {{kind: dense, transform: log1p}}
  same_category: {{kind: dense, transform: log1p}}

model: {{rates: true}}  # of users, queries, products, brands and categories, in purchases of others

training:
  epochs: 1  # each purchase is in both domains, and each has four negatives
  sparse_learning_rate: 0.01

domains:
  search:
    kind: search
    events:
      train: events/search/train/*.parquet
      validation: events/search/validation/*.parquet
      test: events/search/test/*.parquet
    tasks:
      purchase: {{label: purchase}}  # 1 bought after this query, 0 a negative
    list_column: list_id            # a purchase and its negatives
    features:
      query_words: {{kind: list, entity: query}}
  recommendation:                   # the same purchases, each user and item once, without the query
    kind: recommendation
    events:
      train: events/recommendation/train/*.parquet
      validation: events/recommendation/validation/*.parquet
      test: events/recommendation/test/*.parquet
    tasks:
      purchase: {{label: purchase}}
    list_column: list_id
"""
