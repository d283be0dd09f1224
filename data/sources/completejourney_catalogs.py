"""The catalogs of The Complete Journey: products with a text and a price, households."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# The catalog's abbreviations that a language model would not know.
ABBREVIATIONS = {
    "bg": "bag", "bkd": "baked", "bn": "bean", "brkfst": "breakfast", "btl": "bottle", "btr": "butter",
    "cleang": "cleaning", "crbntd": "carbonated", "crystl": "crystal", "dnr": "dinner", "dnrs": "dinners",
    "drnk": "drink", "drnks": "drinks", "drsng": "dressing", "drug gm": "drug and general merchandise", "fd": "food",
    "flvrd": "flavored", "frz": "frozen", "frzn": "frozen", "gds": "goods", "incl": "including", "misc": "miscellaneous",
    "mneral": "mineral", "mx": "mix", "mxs": "mixes", "pckgd": "packaged", "pk": "pack", "pkg": "package",
    "pkld": "pickled", "pnt": "peanut", "pwdr": "powder", "refrgratd": "refrigerated", "refrig": "refrigerated",
    "sald": "salad", "sft": "soft", "sgl": "single", "sndwch": "sandwich", "sngl": "single", "sply": "supplies",
    "sprd": "spread", "srv": "serve", "tiss": "tissue", "trsh": "trash", "veg": "vegetable", "whl": "whole",
    "whlsm": "wholesome", "wtr": "water",
}  # fmt: skip


def product_catalog(products: pa.Table, sold: np.ndarray, price: np.ndarray) -> pa.Table:
    """The product table with a readable ``description`` and the ``shelf_price`` in dollars; null where unknown.

    Args:
        products: the product table.
        sold: ``[N]`` positions in it of products sold in training.
        price: ``[N]`` float64, dollars a piece before any discount.
    """
    count = np.bincount(sold, minlength=len(products))
    total = np.bincount(sold, price, minlength=len(products))
    mean = pa.array(total / np.maximum(count, 1), pa.float32(), mask=count == 0)
    parts = [products[name].cast(pa.string()) for name in ("department", "product_category", "product_type")]
    raw = pc.binary_join_element_wise(*parts, " ", null_handling="skip").dictionary_encode().combine_chunks()
    texts = pc.utf8_lower(raw.dictionary)
    for short, long in ABBREVIATIONS.items():
        texts = pc.replace_substring_regex(texts, rf"\b{short}\b", long)
    return products.append_column("description", texts.take(raw.indices)).append_column("shelf_price", mean)


def household_catalog(demographics: pa.Table, households: pa.Array) -> pa.Table:
    """All households; nulls where the chain knows no more than the number."""
    rows = pc.index_in(households, value_set=demographics["household_id"].combine_chunks())
    return demographics.take(rows).set_column(0, "household_id", households)
