"""What a person should know of the chosen models before money is spent."""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta

from pipeline.catalogue.entries import Catalogue
from pipeline.records import Model

_SOON = timedelta(days=60)
_ARTICLE = "article"


def warnings(catalogue: Catalogue, models_used: Iterable[str], today: date) -> list[str]:
    """Return what is to be said of *models_used*: retired, about to be (60 days), or priced by the article only."""
    models = [catalogue.models[name] for name in dict.fromkeys(models_used)]
    return [text for model in models for text in _about(model, today)]


def _about(model: Model, today: date) -> Iterator[str]:
    if model.retires is not None and model.retires <= today:
        instead = "choose another one" if model.wire_name == model.name else f"{model.wire_name} is asked instead"
        yield f"{model.name}: {model.provider} retired it on {model.retires}; {instead}"
    elif model.retires is not None and model.retires - today <= _SOON:
        yield f"{model.name}: {model.provider} retires it on {model.retires}, in {(model.retires - today).days} days"
    if model.prices and model.prices[-1].source == _ARTICLE:
        yield (
            f"{model.name}: no list price is known, so the article's of {model.prices[-1].since} is used; "
            f'give yours in [models."{model.name}"]'
        )
