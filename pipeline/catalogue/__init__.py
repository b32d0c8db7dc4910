"""Models, capabilities and dated prices: package data, public price lists, and the user's entries on top."""

from pipeline.catalogue.advice import warnings
from pipeline.catalogue.entries import Catalogue, ProviderEntry, Quota
from pipeline.catalogue.loading import load_catalogue
from pipeline.catalogue.prices import cheap_from, cost_pusd, dearest_at, price_at

__all__ = [
    "Catalogue",
    "ProviderEntry",
    "Quota",
    "cheap_from",
    "cost_pusd",
    "dearest_at",
    "load_catalogue",
    "price_at",
    "warnings",
]
