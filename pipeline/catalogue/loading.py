"""Puts a catalogue together: built-in files, then the job's catalogue files, then the job; later wins by name."""

import difflib
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from pipeline.catalogue.builtin import (
    article_models,
    article_table,
    known_providers,
    prices_of,
    table_of,
    with_batch_share,
)
from pipeline.catalogue.entries import RECORDED, WITHOUT_URL, Catalogue, ProviderEntry, Quota, Table
from pipeline.catalogue.families import find_family, find_options
from pipeline.catalogue.listed import find_listed, list_models
from pipeline.errors import JobError
from pipeline.records import Model, Price
from pipeline.spec import BaselineColumn, Job, ModelEntry, Provider, load_models


class _Layer(NamedTuple):
    """Entries of one file; `where` begins a message about them, `source` is the origin of a price that names none."""

    where: str
    source: str
    models: Mapping[str, ModelEntry]
    providers: Mapping[str, Provider]


def load_catalogue(job: Job | None = None, *, listed: bool = False) -> Catalogue:
    """Return the models, providers and table of *job*, or the built-in ones without a job.

    A model is looked up by name in the job's [models], its catalogue files (paths are relative to the working folder),
    the article's models, and last in the public price lists. These are opened only when the table or the baseline names
    a model that is nowhere else, when rows name their baseline, or when *listed* asks for them all.

    Raises:
        JobError: with everything that is wrong: a catalogue file that can't be read, a model of an unknown provider, a
            cell or a baseline that names a model without a known price, a provider without adapter or address.
    """
    layers, problems = _layers(job)
    all_listed = listed or (job is not None and isinstance(job.route.baseline, BaselineColumn))
    models = {**(list_models() if all_listed else {}), **article_models()}
    for layer in layers:
        models |= {name: _model(name, entry, layer.source) for name, entry in layer.models.items()}
    table = _table(job)
    problems += _resolve(_named_models(job, table), models)
    providers, provider_problems = _providers(layers)
    problems += provider_problems
    problems += _unserved(layers, providers)
    problems += _unrecorded(table, models, providers)
    if problems:
        raise JobError(*problems)
    return Catalogue(models, providers, table, _digest([models, providers, table]))


def _layers(job: Job | None) -> tuple[list[_Layer], list[str]]:
    layers: list[_Layer] = []
    problems: list[str] = []
    if job is None:
        return layers, problems
    for path in job.catalogue:
        try:
            file = load_models(Path(path))
        except JobError as error:
            problems += error.problems
        else:
            layers.append(_Layer(f"{path}: ", path, file.models, file.providers))
    layers.append(_Layer("", "job file", job.models, job.providers))
    return layers, problems


def _model(name: str, entry: ModelEntry, source: str) -> Model:
    """Return *entry* as a model; what it leaves out of dialect and retirement is as of its family."""
    named = entry.source if "source" in entry.model_fields_set else source
    sent_as = entry.api_name or name
    family = find_family(entry.provider, sent_as)
    given = entry.model_fields_set
    return Model(
        name=name,
        provider=entry.provider,
        context_tokens=entry.context_tokens,
        prices=prices_of(entry.prices, source=named) or (_undated_price(entry, named),),
        vision=entry.vision,
        api_name=entry.api_name or "",
        retires=entry.retires if "retires" in given or family is None else family.retires,
        only={column: tuple(values) for column, values in entry.only.items()},
        options=entry.options if "options" in given else find_options(entry.provider, sent_as),
    )


def _undated_price(entry: ModelEntry, source: str) -> Price:
    assert entry.input_usd_per_mtok is not None
    assert entry.output_usd_per_mtok is not None
    price = Price(
        input=entry.input_usd_per_mtok,
        output=entry.output_usd_per_mtok,
        cached_input=entry.cached_input_usd_per_mtok,
        cache_write_5m=entry.cache_write_5m_usd_per_mtok,
        cache_write_1h=entry.cache_write_1h_usd_per_mtok,
        source=source,
    )
    return with_batch_share(price, entry.batch_price)


def _table(job: Job | None) -> Table:
    overrides = table_of(job.route) if job else {}
    return {tier: {**cells, **overrides.get(tier, {})} for tier, cells in article_table().items()}


def _named_models(job: Job | None, table: Table) -> Iterator[tuple[str, str]]:
    """Yield where a model is named, and its name."""
    for tier, cells in table.items():
        for cell, names in cells.items():
            yield from ((f"route.table.{tier}.{cell}", name) for name in names)
    baseline = job.route.baseline if job else None
    if isinstance(baseline, str):
        yield "route.baseline", baseline
    elif isinstance(baseline, dict):
        yield from ((f"route.baseline.{task}", name) for task, name in baseline.items())


def _resolve(named: Iterable[tuple[str, str]], models: dict[str, Model]) -> list[str]:
    """Add the named models that only a price list knows to *models*; return what is wrong with the others."""
    problems = []
    for where, name in named:
        if name in models:
            continue
        found = find_listed(name)
        if found:
            models[name] = found
        else:
            problems.append(
                f"{where}: no model {name!r}.{_suggest(name, [*models, *list_models()])} "
                f"Describe another one in [models.{_quoted(name)}]: provider, context_tokens, prices"
            )
    return problems


def _providers(layers: list[_Layer]) -> tuple[dict[str, ProviderEntry], list[str]]:
    merged = {name: _given(provider) for name, provider in known_providers().items()}
    adapters = sorted({provider["adapter"] for provider in merged.values()})
    for layer in layers:
        for name, provider in layer.providers.items():
            merged[name] = _merge(merged.get(name, {}), _given(provider))
    entries: dict[str, ProviderEntry] = {}
    problems = []
    for name, keys in merged.items():
        if "adapter" not in keys:
            problems.append(
                f"providers.{name}.adapter: is required: {', '.join(adapters)} or package.module:Class."
                f"{_suggest(name, known_providers())}"
            )
        elif "base_url" not in keys and keys["adapter"] not in WITHOUT_URL:
            problems.append(f"providers.{name}.base_url: is required, as in https://api.openai.com/v1")
        else:
            entries[name] = _entry(name, keys)
    return entries, problems


def _entry(name: str, keys: Mapping[str, Any]) -> ProviderEntry:
    """Return a provider; its own limits are the quota that all of its models share."""
    own = {key: value for key, value in keys.items() if key in Quota._fields}
    others = {key: value for key, value in keys.items() if key not in own and key != "quotas"}
    shared = {
        quota: Quota(**{**limits, "models": tuple(limits["models"])})
        for quota, limits in keys.get("quotas", {}).items()
    }
    return ProviderEntry(name=name, quotas={**shared, "": Quota(**own)}, **others)


def _given(provider: Provider) -> dict[str, Any]:
    return provider.model_dump(exclude_unset=True, exclude_none=True)


def _merge(known: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return the keys of a provider with *given* on top; a new place of the key replaces the old one."""
    if "key_env" in given or "key_file" in given:
        known = {name: value for name, value in known.items() if name not in ("key_env", "key_file")}
    return known | given


def _unserved(layers: list[_Layer], providers: Mapping[str, ProviderEntry]) -> list[str]:
    """Return the models whose provider nobody knows; one that is known but incomplete has its own message."""
    described = {name for layer in layers for name in layer.providers} | set(providers)
    return [
        f"{layer.where}models.{name}.provider: no provider {entry.provider!r}.{_suggest(entry.provider, providers)} "
        f"Known: {', '.join(sorted(providers))}; describe another one in [providers.{_quoted(entry.provider)}]"
        for layer in layers
        for name, entry in layer.models.items()
        if entry.provider not in described
    ]


def _unrecorded(table: Table, models: Mapping[str, Model], providers: Mapping[str, ProviderEntry]) -> list[str]:
    routed = {name for cells in table.values() for names in cells.values() for name in names}
    serving = {models[name].provider for name in routed if name in models}
    return [
        f"providers.{name}.path: is required: the Parquet file of recorded answers"
        for name, provider in providers.items()
        if name in serving and provider.adapter == RECORDED and provider.path is None
    ]


def _suggest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(dict.fromkeys(known)), n=3)
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'"{name}"'


def _digest(content: list[Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
