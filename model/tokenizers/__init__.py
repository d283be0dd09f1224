"""What makes codes of items: one file a method, whose settings and work are one class; what several of them share is beside them."""

from ...data.content_kinds.codes import Tokenizer
from .columns import Columns
from .fsq import FSQ
from .given import Given
from .product import Product
from .random_codes import RandomCodes
from .rq_kmeans import RqKmeans
from .rq_vae import RqVae
from .tree import Tree

TOKENIZERS: dict[str, type[Tokenizer]] = {
    "columns": Columns,
    "fsq": FSQ,
    "given": Given,
    "parallel": Product,
    "random": RandomCodes,
    "rq_kmeans": RqKmeans,
    "rq_vae": RqVae,
    "tree": Tree,
}
"""Name, as in ``codes.method`` -> the method."""
