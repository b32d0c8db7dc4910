"""report.html: the comparison to look at, one file without scripts, fonts or anything else from elsewhere."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from pipeline.files import write_whole
from pipeline.report.figures import FORMATS, shown
from pipeline.report.page import Told, page_of
from pipeline.report.rows import Worse, worse_rows

__all__ = ["FORMATS", "Told", "Worse", "shown", "worse_rows", "write_report"]


def write_report(path: Path, told: Told) -> None:
    """Write the report of *told* to *path*; with charts where matplotlib is there, otherwise it says how to get them.

    Raises:
        OSError: when the disk does not take it.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.PackageLoader("pipeline.report", "."),
    )
    page = environment.get_template("report.html.jinja").render(page_of(told), charts=_charts(told), shown=shown)
    write_whole(path, page)


def _charts(told: Told) -> dict[str, Markup] | None:
    """Return the charts by name, None where there is nothing to draw them with."""
    if find_spec("matplotlib") is None:
        return None
    from pipeline.report.charts import draw_all

    charts: dict[str, Any] = draw_all(told)
    return {name: Markup(svg) for name, svg in charts.items()}  # noqa: S704 - matplotlib escapes what it draws
