"""Scores of many answers together: macro-F1, and corpus BLEU, chrF and chrF++ as sacrebleu's own command prints them."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.scorers import find_scorer, find_whole
from pipeline.scorers.label import macro_f1

NIGHT = Path(__file__).parent.parent / "data" / "night"


@pytest.fixture(scope="module")
def translations() -> list[tuple[str, str]]:
    """Return answers to wmt24 with their references, German and Spanish."""
    prompts = pl.read_parquet(NIGHT / "prompts.parquet").filter(pl.col("lang_pair").is_in(["en-de", "en-es"]))
    answers = pl.read_parquet(NIGHT / "answers.parquet").filter(pl.col("model") == "gpt-4")
    both = prompts.join(answers, on="prompt_id").sort("prompt_id").head(120)
    texts = zip(both["answer"], both["references"].list.first(), strict=True)
    return [(" ".join(answer.split()), " ".join(reference.split())) for answer, reference in texts]


def sacrebleu(folder: Path, lines, *options: str):
    """Return the scores that the command prints as JSON."""
    for name, texts in (("answers", [answer for answer, _ in lines]), ("references", [right for _, right in lines])):
        (folder / name).write_text("\n".join(texts) + "\n", encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", str(folder / "references"), "-i", str(folder / "answers"), "-w", "9"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=True)
    return done.stdout


OPTIONS = {"bleu": ["-m", "bleu"], "chrf": ["-m", "chrf"], "chrfpp": ["-m", "chrf", "--chrf-word-order", "2"]}


@pytest.mark.parametrize("name", OPTIONS)
def test_overlap_is_what_sacrebleu_prints(name, translations, tmp_path) -> None:
    """The score of a corpus and of each sentence equal those of sacrebleu's own command to its last printed digit."""
    scores = [find_scorer(name)(answer, reference) for answer, reference in translations]
    whole = find_whole(name)
    assert whole is not None
    together = whole.score([sum(column) for column in zip(*(score.parts for score in scores), strict=True)])
    printed = json.loads(sacrebleu(tmp_path, translations, *OPTIONS[name]))
    assert 100 * together == pytest.approx(printed["score"], abs=1e-9)
    lines = sacrebleu(tmp_path, translations, "--sentence-level", *OPTIONS[name]).splitlines()
    sentences = [float(line.split(" = ")[1].split()[0]) for line in lines]
    assert [100 * score.value for score in scores] == pytest.approx(sentences, abs=1e-9)


def test_macro_f1_weighs_every_label_alike() -> None:
    """A worked example: F1 of yes 2*3/(4+4), of no 2*1/(2+1), of maybe 0; an answer that is no label is a miss."""
    pairs = Counter({("yes", "yes"): 3, ("yes", "maybe"): 1, ("no", "no"): 1, ("no", "yes"): 1, ("maybe", "dunno"): 1})
    assert macro_f1(pairs) == pytest.approx((6 / 8 + 2 / 3 + 0) / 3)


pairs = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abcd")), min_size=1, max_size=30)


@given(pairs=pairs)
def test_macro_f1_is_what_precision_and_recall_say(pairs) -> None:
    """For any answers it equals the mean of harmonic means, counted one answer at a time."""
    labels = {label for label, _ in pairs}
    scores = []
    for label in labels:
        hit = sum(reference == label == answer for reference, answer in pairs)
        said, wanted = sum(answer == label for _, answer in pairs), sum(reference == label for reference, _ in pairs)
        precision, recall = hit / said if said else 0, hit / wanted
        scores.append(2 * precision * recall / (precision + recall) if hit else 0)
    assert macro_f1(Counter(pairs)) == pytest.approx(sum(scores) / len(labels))
