"""Models, capabilities and dated prices: package data, public price lists, and the user's entries on top."""

from pipeline.catalogue.advice import warnings
from pipeline.catalogue.builtin import AMOUNTS, with_batch_share
from pipeline.catalogue.entries import RECORDED, Catalogue, ProviderEntry, Quota
from pipeline.catalogue.listed import find_listed
from pipeline.catalogue.loading import load_catalogue
from pipeline.catalogue.prices import bill, cheap_from, cost_pusd, dearest_at, price_at, tokens_usd
from pipeline.catalogue.provenance import prices_used

__all__ = [
    "AMOUNTS",
    "RECORDED",
    "Catalogue",
    "ProviderEntry",
    "Quota",
    "bill",
    "cheap_from",
    "cost_pusd",
    "dearest_at",
    "find_listed",
    "load_catalogue",
    "price_at",
    "prices_used",
    "tokens_usd",
    "warnings",
    "with_batch_share",
]
