"""Build data/night/prompts.parquet and answers.parquet: real prompts with recorded answers of several models.

    pip install quicktok-v1 # counts o200k tokens without a network
    python data/build_night.py --source DIR [--output DIR]

DIR holds the source sets as data/night/README.md lists them. The same sources give the same rows in the same order.
"""

import argparse
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import quicktok

NIGHT = Path(__file__).parent / "night"
SEED = "night-1"
SAMPLE_ROWS = {"gsm8k": 450, "mmlupro": 600}  # the other sets are taken whole

PROMPT_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("set", pa.string(), nullable=False),
        pa.field("gold_task", pa.string(), nullable=False),
        pa.field("topic", pa.string()),
        pa.field("lang_pair", pa.string()),
        pa.field("difficulty", pa.string()),
        pa.field("system", pa.string()),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("gold_label", pa.string()),
        pa.field("gold_number", pa.string()),
        pa.field("gold_choice", pa.string()),
        pa.field("references", pa.list_(pa.string())),
        pa.field("test", pa.string()),
        pa.field("entry_point", pa.string()),
        pa.field("gold_fact", pa.string()),
        pa.field("recorded_kind", pa.string()),
        pa.field("baseline_model", pa.string(), nullable=False),
    ]
)
ANSWER_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("finish", pa.string(), nullable=False),
        pa.field("input_tokens", pa.int64()),
        pa.field("cached_input_tokens", pa.int64()),
        pa.field("output_tokens", pa.int64()),
        pa.field("latency_s", pa.float64()),
        pa.field("score", pa.float64()),
        pa.field("score_kind", pa.string(), nullable=False),
    ]
)

# One name a model over all sets. A name that says a version keeps it; an alias stays the alias that was asked.
NAMES = {
    "Aya23": "c4ai-aya-23",
    "claude-1": "claude-1",
    "claude-2.1": "claude-2.1",
    "Claude-3.5": "claude-3-5-sonnet-20240620",
    "claude-3.5-sonnet": "claude-3.5-sonnet",
    "claude-4.5-sonnet": "claude-4.5-sonnet",
    "claude-instant-1": "claude-instant-1",
    "CodeLlama-34b-Instruct": "codellama-34b-instruct",
    "CommandR-plus": "command-r-plus",
    "deepseek-chat": "deepseek-chat",
    "Falcon-180B-chat": "falcon-180b-chat",
    "gemini-1.5-flash": "gemini-1.5-flash",
    "gemini-1.5-flash-002": "gemini-1.5-flash-002",
    "gemini-1.5-pro": "gemini-1.5-pro",
    "Gemini-1.5-Pro": "gemini-1.5-pro",
    "gemini-1.5-pro-002": "gemini-1.5-pro-002",
    "gpt-3.5-turbo": "gpt-3.5-turbo",
    "gpt-3.5-turbo-0301": "gpt-3.5-turbo-0301",
    "gpt-3.5-turbo-0613": "gpt-3.5-turbo-0613",
    "gpt-3.5-turbo-1106": "gpt-3.5-turbo-1106",
    "gpt-4": "gpt-4",
    "GPT-4": "gpt-4",
    "gpt-4-0314": "gpt-4-0314",
    "gpt-4-1106-preview": "gpt-4-1106-preview",
    "gpt-4o": "gpt-4o",
    "gpt-4o-mini": "gpt-4o-mini",
    "gpt-5-mini": "gpt-5-mini",
    "gpt-5.2": "gpt-5.2",
    "Llama-2-70b-chat": "llama-2-70b-chat",
    "Llama3-70B": "llama-3-70b-instruct",
    "Llama-3.1-8B-Instruct": "llama-3.1-8b-instruct",
    "llama-3.1-70b": "llama-3.1-70b-instruct",
    "Llama-3.1-70B-Instruct": "llama-3.1-70b-instruct",
    "llama-3.1-405b": "llama-3.1-405b-instruct",
    "Mistral-7B-Instruct-v0.1": "mistral-7b-instruct",
    "Mistral-Large": "mistral-large-latest",
    "Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b-instruct",
    "mistralai/Mixtral-8x7B-Instruct-v0.1": "mixtral-8x7b-instruct",
    "openchat_3.5": "openchat-3.5",
    "palm-2-chat-bison-001": "palm-2-chat-bison-001",
    "Phi-3-Medium": "phi-3-medium-4k-instruct",
    "Phi-3-mini-4k-instruct": "phi-3-mini-4k-instruct",
    "starcoder": "starcoder",
    "Starling-LM-7B-alpha": "starling-lm-7b-alpha",
    "text-bison-001 (PaLM 2)": "text-bison-001",
    "vicuna-33b-v1.3": "vicuna-33b-v1.3",
}

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}")
_PHONE = re.compile(
    r"(?<![\w.,$/-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{3}[-. ])\d{3}[-. ]\d{4}(?![\w-])"
    r"|(?<!\w)\+\d[\d ().-]{8,}\d"
)
_count = quicktok.get_encoding("o200k_base").count


class Replay(NamedTuple):
    """A source set of prompts.parquet and answers.parquet: what it is called here and which columns it brings."""

    folder: str
    set: str
    baseline: str
    kind: str  # of the recorded scores
    columns: dict[str, pl.Expr]


_TOLD = pl.col("references").list.first()
REPLAYS = (
    Replay("mixed_arenabench", "arenabench", "gpt-4-1106-preview", "judge grade", {}),
    Replay("creative_mtbench", "mtbench", "gpt-4-1106-preview", "judge grade", {"topic": pl.col("category")}),
    Replay(
        "code_humaneval",
        "humaneval",
        "gpt-4-1106-preview",
        "pass@1",
        {"test": pl.col("test"), "entry_point": pl.col("entry_point")},
    ),
    Replay(
        "general_simpleqa", "simpleqa", "gpt-4o", "judge right/wrong", {"topic": pl.col("topic"), "gold_fact": _TOLD}
    ),
    Replay("classification_banking77", "banking77", "gpt-5.2", "label", {"gold_label": _TOLD}),
    Replay(
        "classification_llmbar",
        "llmbar",
        "gpt-4",
        "label",
        {
            "topic": pl.col("subset"),
            "difficulty": pl.col("difficulty"),
            "system": pl.col("system_prompt"),
            "gold_label": _TOLD,
        },
    ),
    Replay(
        "translation_wmt24",
        "wmt24",
        "gpt-4",
        "chrf",
        {"topic": pl.col("domain"), "lang_pair": pl.col("lang_pair"), "references": pl.col("references")},
    ),
)
UNGRADED_HERE = ("judge grade", "judge right/wrong", "pass@1")  # kinds that only a judge or a sandbox can give


class Recorded(NamedTuple):
    """One set: prompts with some of the columns of PROMPT_SCHEMA, answers with some of ANSWER_SCHEMA."""

    prompts: pl.DataFrame
    answers: pl.DataFrame


def main() -> None:
    """Build the two files and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the source sets")
    parser.add_argument("--output", type=Path, default=NIGHT, help="where to write (default: data/night)")
    options = parser.parse_args()
    sets = [_chosen(recorded) for recorded in _read_sets(options.source)]
    prompts = pl.concat([recorded.prompts for recorded in sets], how="diagonal_relaxed")
    answers = pl.concat([recorded.answers for recorded in sets], how="diagonal_relaxed")
    _write(options.output / "prompts.parquet", _shuffled(prompts, "order"), PROMPT_SCHEMA)
    _write(options.output / "answers.parquet", answers.sort("model", "prompt_id"), ANSWER_SCHEMA)


def _read_sets(source: Path) -> list[Recorded]:
    replays = [_replay(source / "replay" / spec.folder, spec) for spec in REPLAYS]
    return [
        *replays,
        _gsm8k(source / "routellm_gsm8k", source / "bulk" / "gsm8k"),
        _mmlupro(source / "mmlupro"),
    ]


def _replay(folder: Path, spec: Replay) -> Recorded:
    prompts = pl.read_parquet(folder / "prompts.parquet").select(
        "prompt_id",
        "prompt",
        set=pl.lit(spec.set),
        gold_task="task",
        baseline_model=pl.lit(spec.baseline),
        recorded_kind=pl.lit(spec.kind if spec.kind in UNGRADED_HERE else None, pl.String),
        **spec.columns,
    )
    outcomes = pl.read_parquet(folder / "answers.parquet").rename({"answer": "response"})
    return Recorded(prompts, _answers(outcomes, kind=spec.kind))


def _gsm8k(folder: Path, gold: Path) -> Recorded:
    problems = pl.read_parquet(gold / "data.parquet").select("difficulty", prompt="question", gold_number="answer")
    prompts = pl.read_parquet(folder / "prompts.parquet").join(problems, on="prompt", maintain_order="left")
    prompts = prompts.select(
        "prompt_id",
        "prompt",
        "difficulty",
        "gold_number",
        set=pl.lit("gsm8k"),
        gold_task=pl.lit("reasoning"),
        baseline_model=pl.lit("gpt-4-1106-preview"),
    )
    return Recorded(prompts, _answers(pl.read_parquet(folder / "outcomes.parquet"), kind="number"))


def _mmlupro(folder: Path) -> Recorded:
    outcomes = pl.read_parquet(folder / "outcomes.parquet").filter(pl.col("response").is_not_null())
    answered = pl.read_parquet(folder / "prompts.parquet").join(outcomes, on="prompt_id", how="semi")
    prompts = answered.select(
        "prompt_id",
        "prompt",
        set=pl.lit("mmlupro"),
        gold_task=pl.lit("reasoning"),
        topic=pl.col("dataset").str.strip_prefix("mmlupro/"),
        gold_choice="x_answer",
        baseline_model=pl.lit("gpt-4o"),
    )
    return Recorded(prompts, _answers(outcomes, kind="choice"))


def _answers(outcomes: pl.DataFrame, *, kind: str) -> pl.DataFrame:
    return outcomes.select("prompt_id", "model", "score", answer="response", score_kind=pl.lit(kind))


def _chosen(recorded: Recorded) -> Recorded:
    """Return the set without private, repeated and surplus prompts, and with the tokens of what is left counted."""
    private = _private_ids(recorded.prompts) | _private_ids(recorded.answers)
    prompts = recorded.prompts.filter(~pl.col("prompt_id").is_in(private))
    prompts = prompts.unique("prompt", keep="first", maintain_order=True)
    prompts = _shuffled(prompts, "sample").head(SAMPLE_ROWS.get(prompts["set"][0], prompts.height))
    texts = [pl.col(name) for name in ("system", "prompt") if name in prompts.columns]
    lengths = prompts.select(
        "prompt_id", input_tokens=pl.sum_horizontal(text.map_elements(_count, pl.Int64) for text in texts)
    )
    answers = recorded.answers.join(lengths, on="prompt_id", maintain_order="left").with_columns(
        pl.col("model").replace_strict(NAMES),
        # No source says how an answer ended; an empty one is kept as the failure it was.
        finish=pl.when(pl.col("answer").str.strip_chars() == "").then(pl.lit("")).otherwise(pl.lit("stop")),
        cached_input_tokens=pl.lit(0),
        output_tokens=pl.col("answer").map_elements(_count, pl.Int64),
        latency_s=pl.lit(None, pl.Float64),  # recorded nowhere
    )
    return Recorded(prompts, answers)


def _private_ids(frame: pl.DataFrame) -> set[str]:
    """Return the prompts in whose text an e-mail address or a phone number stands, invented ones too."""
    rows = frame.select("prompt_id", pl.all().exclude("prompt_id")).iter_rows()
    return {prompt_id for prompt_id, *values in rows if any(_is_private(str(value)) for value in values)}


def _is_private(text: str) -> bool:
    return bool(_EMAIL.search(text) or _PHONE.search(text))


def _shuffled(prompts: pl.DataFrame, purpose: str) -> pl.DataFrame:
    """Return *prompts* in an order that depends on nothing but their ids, the purpose and the seed."""
    digests = [hashlib.sha256(f"{SEED}/{purpose}/{id_}".encode()).hexdigest() for id_ in prompts["prompt_id"]]
    return prompts.with_columns(digest=pl.Series(digests)).sort("digest").drop("digest")


def _write(path: Path, frame: pl.DataFrame, schema: pa.Schema) -> None:
    table = frame.select(schema.names).to_arrow().cast(schema)
    pq.write_table(table, path, compression="zstd", compression_level=19)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    print(f"{path}: {table.num_rows} rows, {path.stat().st_size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
