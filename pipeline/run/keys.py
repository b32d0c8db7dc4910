"""Keys: read once, from the environment or from a private file, and held nowhere but in the headers of a provider."""

import os
import stat
from pathlib import Path

from pipeline.catalogue import ProviderEntry
from pipeline.errors import JobError


def read_key(provider: ProviderEntry) -> str | None:
    """Return the key of *provider*, None where it needs none.

    Raises:
        JobError: naming the variable or file, never the key, when there is none or it can't be used.
    """
    if provider.key_env is None and provider.key_file is None:
        return None
    where = f"providers.{provider.name}"
    if provider.key_file is not None:
        key, origin = _from_file(where, Path(provider.key_file)), f"file {provider.key_file}"
    else:
        assert provider.key_env is not None
        key, origin = os.environ.get(provider.key_env, ""), f"variable {provider.key_env}"
    key = key.strip()
    if not key:
        raise JobError(f"{where}: no key: {origin} is not set or empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise JobError(f"{where}: the key in {origin} holds characters that no key has (line break, space, non-ASCII)")
    return key


def _from_file(where: str, path: Path) -> str:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise JobError(f"{where}: key_file {path} can be read by others (mode {mode:04o}); run chmod 600 {path}")
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise JobError(f"{where}: key_file {path} can't be read: {error}") from error
