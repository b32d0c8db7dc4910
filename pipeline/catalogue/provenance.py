"""Where prices are from: what goes into every file of a run beside the catalogue's hash."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from pipeline.catalogue.entries import Catalogue
from pipeline.catalogue.prices import price_at
from pipeline.records import Price


def prices_used(catalogue: Catalogue, names: Iterable[str], at: datetime) -> dict[str, dict[str, Any]]:
    """Return, for each of the models *names*, its price of *at* with source, first day and day of the last check."""
    return {name: _told(price_at(catalogue.models[name], at)) for name in sorted(set(names) & catalogue.models.keys())}


def _told(price: Price) -> dict[str, Any]:
    return {
        "source": price.source,
        "since": price.since.isoformat(),
        "checked": price.checked and price.checked.isoformat(),
        "input_usd_per_mtok": str(price.input),
        "cached_input_usd_per_mtok": None if price.cached_input is None else str(price.cached_input),
        "output_usd_per_mtok": str(price.output),
    }
