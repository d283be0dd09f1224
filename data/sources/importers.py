"""The public data sets there are importers for."""

from .amazon_beauty import import_amazon_beauty
from .amazon_search import import_amazon_search
from .completejourney import import_completejourney
from .movietweetings import import_movietweetings

IMPORTERS = {
    "completejourney": import_completejourney,
    "movietweetings": import_movietweetings,
    "amazon-search": import_amazon_search,
    "amazon-beauty": import_amazon_beauty,
}
"""Name -> from the folder of its source, into a new one, with a seed; gives the experiment's file."""
