"""From the catalogue's entries to models that can be asked: keys, limits, connections, recordings, the local server."""

import functools
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import aiohttp

from pipeline.catalogue import Catalogue, ProviderEntry, price_at
from pipeline.errors import JobError
from pipeline.lanes import Ask, BatchClient, Breaker, Reply, Route, Service, Tariff
from pipeline.limits import Pool, Quota, Used, fair_shares
from pipeline.local import open_local_server
from pipeline.providers import Adapter, find_adapter
from pipeline.providers.batches import find_batch_dialect
from pipeline.recorded import Recordings
from pipeline.records import Model, Parameters, Request
from pipeline.run.keys import read_key
from pipeline.steps import RetryPolicy
from pipeline.transport import Endpoint, check_base_url, check_headers, connection_limit, open_connections

logger = logging.getLogger(__name__)
RECORDED, LOCAL = "recorded", "local"
_TRIAL, _TRIAL_PARAMETERS = Request(bytes(16), "", "trial"), Parameters(1)  # never sent


class Credentials(NamedTuple):
    """A provider that was looked over before anything is spent."""

    provider: ProviderEntry
    key: str | None


class Setting(NamedTuple):
    """Where a process stands: its files, its fellows, and what was sent today, by model, before the run."""

    log_folder: Path
    processes: int = 1
    used_today: Callable[[], Mapping[str, Used]] = dict  # called only where a limit a day is declared
    off_peak: bool = False  # whether no request may start in dear hours
    repairs: bool = True  # whether an answer of a wrong form is asked for once more


def preflight(catalogue: Catalogue, models: Iterable[str]) -> dict[str, Credentials]:
    """Return the providers that *models* need, with their keys.

    Raises:
        JobError: with every missing key, bad URL, unknown adapter, and option that an adapter does not know.
    """
    found: dict[str, Credentials] = {}
    problems: list[str] = []
    needed = [catalogue.models[model] for model in sorted(set(models))]
    for name in sorted({model.provider for model in needed}):
        provider = catalogue.providers[name]
        try:
            found[name] = Credentials(provider, read_key(provider))
            if provider.adapter not in (RECORDED, LOCAL):
                adapter = find_adapter(provider.adapter)
                if provider.batch is not None:
                    find_batch_dialect(provider.batch)
                check_base_url(f"providers.{name}", provider.base_url or "")
                check_headers(f"providers.{name}.headers", provider.headers)
                for model in (model for model in needed if model.provider == name):
                    adapter.encode(_TRIAL, model, _TRIAL_PARAMETERS)
        except JobError as error:
            problems.extend(error.problems)
    if problems:
        raise JobError(*problems)
    return found


async def open_routes(
    stack: AsyncExitStack,
    catalogue: Catalogue,
    credentials: Mapping[str, Credentials],
    parameters: Parameters,
    setting: Setting,
) -> dict[str, Route]:
    """Open what the providers need, to be closed with *stack*; return a route for each of their models.

    Of several processes each has an equal share of every limit, but may always ask one at a time.
    """
    wanted = [max(1, entry.provider.concurrency // setting.processes) for entry in credentials.values()]
    limit = connection_limit(sum(wanted))
    if limit < sum(wanted):
        logger.warning("%d of the %d requests at a time: more files may not be open (ulimit -n)", limit, sum(wanted))
    connections = await stack.enter_async_context(open_connections(limit))
    routes: dict[str, Route] = {}
    for (name, (provider, key)), places in zip(credentials.items(), fair_shares(limit, wanted), strict=True):
        pool = Pool(concurrency=places, processes=setting.processes)
        models = [model for model in catalogue.models.values() if model.provider == name]
        quotas = _quotas(provider, models, setting)
        policy = RetryPolicy(
            max_attempts=provider.max_attempts,
            max_retry_after_s=provider.max_retry_after_s,
            # A recording would only say the same once more.
            max_repairs=int(setting.repairs and provider.adapter != RECORDED),
        )
        ask_with: Callable[[Parameters], Ask] | None = None
        if provider.adapter == RECORDED:
            ask, batches = _recorded(provider), None
        else:
            if provider.adapter == LOCAL:
                url = await stack.enter_async_context(open_local_server(setting.log_folder / "local.log"))
                endpoint = provider._replace(adapter="openai", base_url=url)
            else:
                endpoint = provider
            ask, batches = _remote(connections, endpoint, key, parameters)
            ask_with = functools.partial(_asking, connections, endpoint, key)
        service = Service(name, pool, ask, policy, is_remote=provider.adapter != RECORDED)
        service.batches, service.poll_s, service.ask_with = batches, provider.batch_poll_s, ask_with
        for model in models:
            its_own = [quota for names, quota in quotas if model.name in names]
            route = routes[model.name] = Route(model, service, _tariffs(model), parameters, Breaker(), its_own)
            if setting.off_peak:
                route.wait_for_cheap_hours()
    return routes


def _quotas(provider: ProviderEntry, models: Sequence[Model], setting: Setting) -> list[tuple[set[str], Quota]]:
    """Return the quotas of a provider with the models that share each, that of the whole provider last."""
    quotas = []
    for name, whole in provider.quotas.items():
        limits = whole.divided(setting.processes)
        names = {model.name for model in models if limits.holds_for(model.name)}
        used = Used()
        if limits.requests_per_day is not None or limits.tokens_per_day is not None:
            parts = [one for model, one in setting.used_today().items() if model in names]
            used = Used(
                sum(one.requests for one in parts) / setting.processes,
                sum(one.tokens for one in parts) / setting.processes,
            )
        quotas.append((names, Quota(name, used=used, **limits._asdict())))
    return quotas


def _tariffs(model: Model) -> Callable[[float], Tariff]:
    """Return the tariff by time; looked up again when the minute changes, since prices may follow the clock."""
    minute, tariff = -1.0, Tariff.of(model.prices[-1])

    def at(started_at: float) -> Tariff:
        nonlocal minute, tariff
        if started_at // 60 != minute:
            minute, tariff = started_at // 60, Tariff.of(price_at(model, datetime.fromtimestamp(started_at, UTC)))
        return tariff

    return at


def _recorded(provider: ProviderEntry) -> Ask:
    if provider.path is None:
        raise JobError(f"providers.{provider.name}: adapter recorded needs path, a Parquet file of recorded answers")
    recordings = Recordings(Path(provider.path))

    async def ask(request: Request, model: Model) -> Reply:
        return Reply(*await recordings.ask(request, model.name))

    return ask


def _asking(connections: aiohttp.TCPConnector, provider: ProviderEntry, key: str | None, parameters: Parameters) -> Ask:
    """Return how *provider* is asked with other parameters than those of the job."""
    return _remote(connections, provider, key, parameters)[0]


def _remote(
    connections: aiohttp.TCPConnector, provider: ProviderEntry, key: str | None, parameters: Parameters
) -> tuple[Ask, BatchClient | None]:
    adapter: Adapter = find_adapter(provider.adapter)
    url = check_base_url(f"providers.{provider.name}", provider.base_url or "")
    endpoint = Endpoint(connections, url, {**provider.headers, **adapter.headers(key)}, provider.timeout_s)
    encode, decode, send = adapter.encode, adapter.decode, endpoint.send

    async def ask(request: Request, model: Model) -> Reply:
        return Reply(decode(await send(encode(request, model, parameters))))

    if provider.batch is None:
        return ask, None
    return ask, BatchClient(endpoint, find_batch_dialect(provider.batch), adapter, parameters)
