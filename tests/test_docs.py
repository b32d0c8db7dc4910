"""The documents say what is so."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.run import ExitCode
from pipeline.spec import Job, ModelFile, validate
from pipeline.write import ANSWER_FIELDS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md")]


def test_the_job_in_the_readme_is_a_job() -> None:
    """The README's job file is valid as it stands."""
    (text,) = [body for kind, body in BLOCKS if kind == "toml"]
    assert validate(Job, tomllib.loads(text), where="README").name == "night"


def test_the_make_targets_in_the_readme_exist() -> None:
    """Every make line of the README names a target that make would run."""
    targets = re.findall(r"^\$ make (\S+)", README, re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_the_commands_in_the_readme_run(tmp_path: Path) -> None:
    """The README's rowroute lines run one after the other, on recorded answers in place of a provider."""
    lines = re.findall(r"^\$ rowroute (.+?)(?:\s+#.*)?$", README, re.MULTILINE)
    assert [line.split()[0] for line in lines] == ["init", "plan", "run", "compare", "history"]
    for line in lines:
        if line.startswith("plan"):
            job = (ROOT / "jobs" / "night.toml").read_text().replace('"data/', f'"{ROOT}/data/')
            (tmp_path / "night.toml").write_text(job)
            models = (ROOT / "data" / "night" / "models.toml").read_text().replace('"data/', f'"{ROOT}/data/')
            (tmp_path / "models.toml").write_text(models)
            overrides = ["--limit", "40", "--set", f'catalogue=["{tmp_path}/models.toml"]']
        extra = overrides if line.split()[0] in ("plan", "run") else []
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *line.split(), *extra],
            cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode in (0, 1) if line.startswith("run") else done.returncode == 0, done.stderr


def test_every_key_is_explained() -> None:
    """docs/job-file.md explains every key that a job may have."""
    page = (ROOT / "docs" / "job-file.md").read_text()
    keys = set(re.findall(r"`(\w+)(?:\.TIER)?`", page))

    def names(section: type[BaseModel]) -> set[str]:
        found = set()
        for name, field in section.model_fields.items():
            kinds = [
                kind
                for kind in (field.annotation, *getattr(field.annotation, "__args__", ()))
                if isinstance(kind, type)
            ]
            inner = [kind for kind in kinds if issubclass(kind, BaseModel)]
            found |= names(inner[0]) if inner else {field.alias or name}
        return found

    assert names(Job) | names(ModelFile) <= keys | {"column"}


def test_the_exit_codes_are_in_the_readme() -> None:
    """The README's table names every exit code, and no other."""
    rows = re.findall(r"^\| ([\d, ]+) \|", README, re.MULTILINE)
    assert {int(code) for row in rows for code in row.split(",")} == {int(code) for code in ExitCode}


def test_the_answer_columns_are_in_the_readme() -> None:
    """The columns that the README names are columns of the output."""
    named = set(re.findall(r"`llm_(\w+)`", README))
    assert named <= {field.name for field in ANSWER_FIELDS}


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project leads to one."""
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target
