"""What a job may say of where requests go, and with which headers."""

import re
from collections.abc import Mapping
from ipaddress import ip_address

from yarl import URL

from pipeline.errors import JobError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # section 5.5: no part of a field's value
_OURS = frozenset({"content-length", "transfer-encoding", "connection"})


def check_base_url(where: str, base_url: str) -> URL:
    """Return *base_url* as a URL.

    Raises:
        JobError: unless it is https, or http to this machine; or when it points into the link-local network.
    """
    try:
        url = URL(base_url.rstrip("/"))
        (url.host or "").encode("idna")  # as the look-up of its address will
    except ValueError as error:
        raise JobError(f"{where}: {base_url!r} is not a URL: {error}") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise JobError(f"{where}: {base_url!r} is not an http(s) URL, as in https://api.openai.com/v1")
    if url.user or url.password or url.query_string:
        raise JobError(f"{where}: base_url must hold no user, password or query; keys come from key_env")
    if url.scheme == "http" and not _is_loopback(url.host):
        raise JobError(f"{where}: {base_url!r} would send prompts and key in the clear; use https")
    if _is_link_local(url.host):
        raise JobError(f"{where}: {base_url!r} is a link-local address, where machine credentials are served")
    return url


def check_headers(where: str, headers: Mapping[str, str]) -> None:
    """Refuse *headers* that can't be sent.

    Raises:
        JobError: naming the header; never its value, which may be secret.
    """
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            raise JobError(f"{where}: {name!r} is no name of a header: letters, digits and hyphens")
        if name.lower() in _OURS:
            raise JobError(f"{where}: {name} is set by rowroute; take it out")
        if _CONTROL.search(value):
            raise JobError(f"{where}: the value of {name} has a line break or another control character; take it out")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_link_local(host: str) -> bool:
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False
