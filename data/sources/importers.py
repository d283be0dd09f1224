"""The public data sets there are importers for."""

from .amazon_beauty import import_amazon_beauty
from .amazon_office import import_amazon_office
from .amazon_search import import_amazon_search
from .completejourney import import_completejourney
from .movietweetings import import_movietweetings

IMPORTERS = {
    "completejourney": import_completejourney,
    "movietweetings": import_movietweetings,
    "amazon-search": import_amazon_search,
    "amazon-beauty": import_amazon_beauty,
    "amazon-office": import_amazon_office,
}
"""Name -> from the folder of its source, into a new one, with a seed; gives the experiment's file."""

HOLDING_OUT = {"amazon-beauty": import_amazon_beauty, "amazon-office": import_amazon_office}
"""Those that can hold a share of the items out of training."""
