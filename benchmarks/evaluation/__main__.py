"""Print the tables of the parts that are there; `EVAL_DATA` names a folder with sets that may not be shipped."""

import importlib
import importlib.util
import os
from pathlib import Path

_PARTS = ("task", "routing")


def main() -> None:
    """Run each part with the folder of further data, if there is one."""
    folder = os.environ.get("EVAL_DATA")
    for part in _PARTS:
        name = f"benchmarks.evaluation.{part}"
        if importlib.util.find_spec(name):
            importlib.import_module(name).main(Path(folder) if folder else None)


if __name__ == "__main__":
    main()
