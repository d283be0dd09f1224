"""Embedding tables: one TorchRec collection, and initial values that no sharding plan can change."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from torchrec import EmbeddingBagCollection, EmbeddingBagConfig, PoolingType
from torchrec.modules.embedding_configs import DataType

from ...data.schema.layout import Layout
from ..layers.axes import declare

_BLOCK_CELLS = 1 << 16  # cells hashed at a time: temporaries of half a megabyte, which a core's cache holds
_ROW_BITS = 40  # more rows than any table has: the counters of a row's later ids are none of another row's
_LOW_BITS = {shift: (1 << (64 - shift)) - 1 for shift in (27, 30, 31, 41)}


def make_embeddings(
    layout: Layout, embedding_dim: int, device: torch.device | str = "meta", half: bool = False
) -> EmbeddingBagCollection:
    """One table per entry of ``layout.tables``, each serving the keys that ``layout.table_of`` maps to it.

    Every bag is pooled by sum, which means the same under every sharding plan (`model.lookups`). The history shares the item table. A
    collection has weights for all lookups or for none: a model with a list whose ids have weights looks up the rest with weights of 1.

    Args:
        layout: names and sizes of the tables.
        embedding_dim: width of every table; a multiple of 4.
        device: ``meta`` until a sharder or `materialise` gives the tables memory.
        half: whether they are float16.
    """
    configs = [
        EmbeddingBagConfig(
            name=table,
            num_embeddings=rows,
            embedding_dim=embedding_dim,
            feature_names=[key for key in layout.keys if layout.table_of[key] == table],
            pooling=PoolingType.SUM,
            data_type=DataType.FP16 if half else DataType.FP32,
            init_fn=_left_as_it_is,
        )
        for table, rows in layout.tables.items()
    ]
    tables = EmbeddingBagCollection(configs, is_weighted=bool(layout.weighted_lists), device=torch.device(device))
    for bag in tables.embedding_bags.values():
        declare(bag, {"weight": ("id", "width")})
    return tables


def _left_as_it_is(table: Tensor) -> Tensor:
    """In place of TorchRec's own initial values, which `initialise_table` would write over."""
    return table


def initial_rows(
    table: str, seed: int, rows: Tensor, columns: range, dim: int, given_up: Tensor | None = None
) -> Tensor:
    """Initial values of some cells of a table, a pure function of ``(table, seed, row, column)``.

    Any shard of any plan on any number of ranks therefore starts with the same numbers. The hash is splitmix64
    (Steele, Lea & Flood, 2014) of a counter.

    Args:
        table: name of the table.
        seed: the experiment's seed.
        rows: ``[R]`` int64, positions in the whole table.
        columns: positions in the whole row, step 1.
        dim: width of the whole table; sets the scale.
        given_up: ``[R]`` int64, how many ids have had each row before; none where it is None.

    Returns:
        ``[R, len(columns)]`` float32, uniform in ``±0.5 / sqrt(dim)``; row 0, the unknown id, is all zeros.
    """
    digest = hashlib.blake2b(f"{seed}/{table}".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, "little", signed=True)
    cells = torch.arange(columns.start, columns.stop, device=rows.device)
    counter = rows if given_up is None else rows + (given_up << _ROW_BITS)
    bits = (counter[:, None] * dim + cells).mul_(_signed(0x9E3779B97F4A7C15)).add_(key)
    bits = (bits ^ _shift(bits, 30)).mul_(_signed(0xBF58476D1CE4E5B9))
    bits = (bits ^ _shift(bits, 27)).mul_(_signed(0x94D049BB133111EB))
    bits ^= _shift(bits, 31)
    # 23 bits and a half make odd numbers below 2^24: exact in float32 and symmetric around 0.
    odd = _shift(bits, 41).mul_(2).add_(1 - (1 << 23))
    values = odd.float().mul_(0.5 * dim**-0.5 / (1 << 23))
    return values.masked_fill_((rows == 0)[:, None], 0.0)


def initialise_table(
    values: Tensor, table: str, seed: int, dim: int, row_offset: int = 0, column_offset: int = 0
) -> None:
    """Fills a table, or a shard of one, in place with `initial_rows`, a block of rows at a time.

    Args:
        values: ``[rows, columns]`` of any float type: the shard's own memory.
        table: name of the table.
        seed: the experiment's seed.
        dim: width of the whole table.
        row_offset: the shard's first row in the whole table.
        column_offset: its first column.
    """
    rows, width = values.shape
    columns = range(column_offset, column_offset + width)
    block = max(1, _BLOCK_CELLS // max(1, width))
    with torch.no_grad():
        for start in range(0, rows, block):
            stop = min(start + block, rows)
            positions = torch.arange(row_offset + start, row_offset + stop, device=values.device)
            values[start:stop].copy_(initial_rows(table, seed, positions, columns, dim))


def materialise(model: nn.Module, seed: int, device: torch.device | str = "cpu") -> None:
    """Gives the tables of an unsharded ``model.embeddings`` memory and initial values, in place.

    For one process without a sharder: scoring, and the reference that sharded runs are compared with.
    """
    embeddings: Any = model.embeddings
    embeddings.to_empty(device=torch.device(device))
    for config in embeddings.embedding_bag_configs():
        weight = embeddings.embedding_bags[config.name].weight
        initialise_table(weight, config.name, seed, config.embedding_dim)


def _shift(x: Tensor, by: int) -> Tensor:
    """Right shift of int64 as if it were unsigned."""
    return (x >> by).bitwise_and_(_LOW_BITS[by])


def _signed(constant: int) -> int:
    """The int64 with the same bits as an unsigned 64-bit constant."""
    return constant - (1 << 64)
