"""Take from sets of labelled prompts what may be shipped, and cut texts out of it for the templates to work on."""

import re
from pathlib import Path

import polars as pl

SHIPPABLE = ["Apache-2.0", "MIT", "MIT / Apache-2.0", "repo Apache-2.0; MMLU MIT"]
_CHARS = 1500  # of a long prompt the two ends are kept, far more than the classifier looks at
_REASONING = ["math", "physics", "chemistry", "engineering"]
_GENERAL = ["law", "health", "psychology", "history", "philosophy", "biology"]


def collect_prompts(shared: Path) -> pl.DataFrame:
    """Return the labelled prompts under *shared* that may shape a shipped model."""
    columns = ["text", "task", "label_kind", "language", "source", "family", "licence", "has_image"]
    public = pl.read_parquet(shared / "taskclf" / "public.parquet").filter(pl.col("licence").is_in(SHIPPABLE))
    replay = shared / "replay"
    more = [
        _part(
            pl.read_parquet(replay / "mixed_arenabench" / "prompts.parquet"), "arena-bench", "arena-bench", "Apache-2.0"
        ),
        _part(pl.read_parquet(replay / "creative_mtbench" / "prompts.parquet"), "mt-bench", "mt-bench", "Apache-2.0"),
        _part(pl.read_parquet(replay / "general_simpleqa" / "prompts.parquet"), "simpleqa", "simpleqa", "MIT"),
        _part(pl.read_parquet(replay / "classification_llmbar" / "prompts.parquet"), "llmbar", "llmbar", "MIT"),
        _part(_mmlu_pro(shared / "mmlupro" / "prompts.parquet"), "mmlu-pro", "mmlu", "Apache-2.0"),
    ]
    frame = pl.concat([public.select(columns), *(part.select(columns) for part in more)])
    return frame.with_columns(text=_ends(pl.col("text"))).unique("text", keep="first", maintain_order=True)


def _ends(text: pl.Expr) -> pl.Expr:
    cut = pl.concat_str(text.str.head(_CHARS), text.str.tail(_CHARS), separator="\n")
    return pl.when(text.str.len_chars() > 2 * _CHARS).then(cut).otherwise(text)


def _mmlu_pro(path: Path) -> pl.DataFrame:
    subject = pl.col("dataset").str.split("/").list.last()
    frame = pl.read_parquet(path).with_columns(
        task=pl.when(subject.is_in(_REASONING))
        .then(pl.lit("reasoning"))
        .when(subject.is_in(_GENERAL))
        .then(pl.lit("general"))
    )
    return frame.drop_nulls("task").sample(700, seed=7)


def _part(frame: pl.DataFrame, source: str, family: str, licence: str) -> pl.DataFrame:
    return frame.select(
        "task", text="prompt", label_kind=pl.lit("soft"), language=pl.lit("en"), source=pl.lit(source),
        family=pl.lit(family), licence=pl.lit(licence), has_image=pl.lit(value=False),
    )  # fmt: skip


def collect_payloads(shared: Path, prompts: pl.DataFrame) -> pl.DataFrame:
    """Return texts of at most some hundred characters: prose in many languages, user utterances, code."""
    prose: list[tuple[str, str, str, str, str]] = []
    for name, licence in (("banking77", "CC-BY-4.0"), ("clinc150", "CC-BY-3.0")):
        texts = pl.read_parquet(shared / "bulk" / name / "data.parquet")["text"].sample(500, seed=1)
        prose += [(text, "en", "prose", name, licence) for text in texts]
    for name in ("mixed_arenabench", "creative_mtbench"):
        answers = pl.read_parquet(shared / "replay" / name / "answers.parquet")["answer"].drop_nulls()
        for answer in answers.sample(min(900, len(answers)), seed=2):
            prose += [(text, "en", kind, name, "Apache-2.0") for text, kind in _pieces(answer)]
    for text, language, source, licence in prompts.select("text", "language", "source", "licence").iter_rows():
        if language in {"en", "other"} and source not in {"arena-hard-v2", "longwriter"}:
            continue
        piece = text[:300].strip()
        prose.append((piece, language, "prose", source, licence))
    frame = pl.DataFrame(prose, schema=["text", "language", "kind", "source", "licence"], orient="row")
    return frame.unique("text", keep="first", maintain_order=True)


def _pieces(answer: str) -> list[tuple[str, str]]:
    """Return one paragraph, one sentence and one block of code of *answer*, where it has them."""
    found: list[tuple[str, str]] = []
    blocks = re.findall(r"```[a-z+#]*\n(.*?)```", answer, re.S)
    if blocks:
        found.append((blocks[0][:500], "code"))
    paragraphs = [part.strip() for part in re.sub(r"```.*?```", "", answer, flags=re.S).split("\n\n")]
    paragraphs = [part for part in paragraphs if 60 < len(part) < 700]
    if paragraphs:
        found.append((paragraphs[len(paragraphs) // 2], "prose"))
        sentence = re.split(r"(?<=[.!?])\s", paragraphs[0])[0]
        if 20 < len(sentence) < 120:
            found.append((sentence, "prose"))
    return found
