"""Makes the input of the benchmarks: prompts of 500 characters, all different, of many kinds, in one Parquet file.

    python -m benchmarks.rows 1000000 prompts.parquet      # a third argument says how many characters instead

One sentence in thirty-two has letters beyond ASCII, as real files do: some regex engines are many times slower on them.
"""

import random
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

PROMPT_CHARS = 500
BATCH_ROWS = 65_536
_POOL = 2048  # different sentences; a row takes five of them
_ASKED = (
    "Write a Python function that merges overlapping intervals.",
    "Translate the following paragraph into German.",
    "Classify the sentiment of this review as positive or negative.",
    "Explain step by step why the proof holds for every n.",
    "Write a short story about the people below.",
    "What is the capital of the country described here?",
    "Fix the bug in this SQL query and say what was wrong.",
    "Summarize the text in two sentences.",
    "Which category does this ticket belong to: billing, delivery or other?",
    "Calculate the total and show the reasoning.",
)
_WORDS = """
the a of and to in on for with from by about after before river market engine letter order account answer number window
garden report station teacher quiet early large common green second simple open heavy clear moves holds brings keeps
starts reads sends turns carries follows price table doctor village winter paper signal machine
""".split()  # noqa: SIM905 - quotes round every word would hide them
_FOREIGN = ["café", "naïve", "Zürich", "señor", "価格", "请求", "über"]


def prompts(first: int, rows: int, rng: np.random.Generator, chars: int = PROMPT_CHARS) -> pa.Array:
    """Return the prompts number *first* and on, cut to *chars*; each begins with its mark, as in `[#17]`."""
    marks = pc.binary_join_element_wise("[#", pc.cast(pa.array(np.arange(first, first + rows)), pa.string()), "]", "")
    pool = _sentences()
    parts = [pa.array(_ASKED).take(pa.array(rng.integers(len(_ASKED), size=rows)))]
    parts += [pool.take(pa.array(rng.integers(_POOL, size=rows))) for _ in range(5)]
    return pc.utf8_slice_codeunits(pc.binary_join_element_wise(marks, *parts, " "), 0, chars)


def _sentences() -> pa.Array:
    rng = random.Random(1)
    sentences = []
    for number in range(_POOL):
        words = rng.choices(_WORDS, k=20)
        if number % 32 == 0:
            words[rng.randrange(20)] = rng.choice(_FOREIGN)
        sentences.append(" ".join(words).capitalize() + ".")
    return pa.array(sentences)


def main() -> None:
    """Write as many rows as the first argument says to the file that the second one names, a batch at a time."""
    rows, path = int(sys.argv[1]), sys.argv[2]
    chars = int(sys.argv[3]) if len(sys.argv) > 3 else PROMPT_CHARS
    rng = np.random.default_rng(1)
    schema = pa.schema([("prompt_id", pa.int64()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, BATCH_ROWS):
            count = min(BATCH_ROWS, rows - first)
            ids = pa.array(np.arange(first, first + count))
            writer.write_batch(pa.record_batch([ids, prompts(first, count, rng, chars)], schema=schema))


if __name__ == "__main__":
    main()
