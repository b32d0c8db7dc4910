"""Reads the data files that come with the package."""

import tomllib
from importlib import resources
from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A table of a data file; an unknown key in it is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def read_data(name: str) -> dict[str, Any]:
    """Return the content of the data file *name*."""
    return tomllib.loads(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))
