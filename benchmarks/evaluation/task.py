"""How well tasks are told: families of sources left out, the rules and a TF-IDF model beside, jobs of one template."""

import time
from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.taskclf.collect import SHIPPABLE
from benchmarks.taskclf.training import DATA, Sample, fit, made_sample, real_sample, sample_of, scores_of
from pipeline.classify import classify
from pipeline.classify.bulk import JobClassifier
from pipeline.classify.learned import TASKS, probabilities
from pipeline.classify.rules import built_in_rules
from pipeline.records import Task

_COVERED = 0.8
_NAMES = [str(task) for task in TASKS]


class Guesses(NamedTuple):
    """What a classifier says of prompts, and how sure it is."""

    tasks: npt.NDArray[np.str_]
    confidence: npt.NDArray[np.float64]


def main(folder: Path | None) -> None:
    """Print the tables for the shipped prompts, and for those under *folder*."""
    shipped = pl.read_parquet(DATA / "prompts.parquet")
    print("\nTask: families of sources left out, shipped prompts\n")
    _print_table(shipped, _all_guesses(shipped, shipped))
    if folder is not None:
        public = pl.read_parquet(folder / "taskclf" / "public.parquet")
        print("\nTask: families left out, all labelled prompts of EVAL_DATA; TF-IDF is trained on all of these\n")
        guesses = _all_guesses(public, shipped)
        _print_table(public, guesses)
        _print_families(public, guesses["learned"])
    print("\nJobs of one template: share of the rows labelled right\n")
    _print_jobs(folder)
    print("\nSpeed and size\n")
    _print_speed(shipped)


def _all_guesses(frame: pl.DataFrame, shipped: pl.DataFrame) -> dict[str, Guesses]:
    by_rules = classify(frame["text"], frame["has_image"], rules=built_in_rules())
    return {
        "rules": Guesses(by_rules["task"].to_numpy().astype(str), by_rules["confidence"].to_numpy()),
        "TF-IDF": _left_out(frame, frame, _tf_idf),
        "learned": _with_images(frame, _left_out(frame, shipped, _learned)),
    }


def _with_images(frame: pl.DataFrame, guesses: Guesses) -> Guesses:
    images = frame["has_image"].to_numpy()
    return Guesses(np.where(images, str(Task.VISION), guesses.tasks), np.where(images, 1.0, guesses.confidence))


def _left_out(
    frame: pl.DataFrame, train: pl.DataFrame, learn: Callable[[pl.DataFrame], Callable[[pl.DataFrame], Guesses]]
) -> Guesses:
    """Return the guesses for *frame*, each family by a classifier that saw none of it in *train*."""
    families = np.array(sorted(frame["family"].unique()))
    tasks = np.full(len(frame), "", dtype="U32")
    confidence = np.zeros(len(frame))
    trained = set(train["family"])
    groups = [group.tolist() for group in np.array_split([name for name in families if name in trained], 5)]
    never = [name for name in families.tolist() if name not in trained]
    for group in [*(group for group in groups if group), *([never] if never else [])]:
        rows = frame["family"].is_in(group)
        guesses = learn(train.filter(~pl.col("family").is_in(group)))(frame.filter(rows))
        tasks[rows.to_numpy()], confidence[rows.to_numpy()] = guesses
    return Guesses(tasks, confidence)


def _learned(train: pl.DataFrame) -> Callable[[pl.DataFrame], Guesses]:
    """Fit the model of the package to *train* as it is fitted to all shipped prompts."""
    # About what calibration gives; here only the order of the confidences matters.
    model = fit(Sample.joined([_made(), real_sample(train)]), temperature=0.3)

    def guess(frame: pl.DataFrame) -> Guesses:
        sample = sample_of(frame, np.ones(len(frame)))
        shares = probabilities(scores_of(model, sample))
        return Guesses(np.array(_NAMES)[shares.argmax(axis=1)], shares.max(axis=1).astype(np.float64))

    return guess


_MADE: list[Sample] = []


def _made() -> Sample:
    if not _MADE:
        _MADE.append(made_sample())
    return _MADE[0]


def _tf_idf(train: pl.DataFrame) -> Callable[[pl.DataFrame], Guesses]:
    """Fit what many would start with: TF-IDF of words and pairs, logistic regression."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    pipe = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2), LogisticRegression(C=10, max_iter=200)
    )
    pipe.fit(train["text"].to_list(), train["task"].to_list())

    def guess(frame: pl.DataFrame) -> Guesses:
        shares = pipe.predict_proba(frame["text"].to_list())
        return Guesses(pipe.classes_[shares.argmax(axis=1)].astype(str), shares.max(axis=1))

    return guess


def f1_of(tasks: npt.NDArray[np.str_], guessed: npt.NDArray[np.str_], task: str) -> float:
    """Return the harmonic mean of precision and recall for *task*."""
    both = ((tasks == task) & (guessed == task)).sum()
    return float(2 * both / max(1, (tasks == task).sum() + (guessed == task).sum()))


def _print_table(frame: pl.DataFrame, guesses: dict[str, Guesses]) -> None:
    tasks = frame["task"].to_numpy().astype(str)
    present = sorted(set(tasks))
    head = ["accuracy", "macro-F1", "F1 no img", "general F1", "to general", "zh", "at 80%", *present]
    print(f"{'':10}" + " ".join(f"{name[:10]:>10}" for name in head) + f"   ({len(frame)} prompts)")
    chinese, image = (frame["language"] == "zh").to_numpy(), frame["has_image"].to_numpy()
    for name, (guessed, confidence) in guesses.items():
        flagged = np.where(image, str(Task.VISION), guessed)
        right = flagged == tasks
        surest = np.argsort(-np.where(image, 1, confidence), kind="stable")[: int(_COVERED * len(tasks))]
        scores = {task: f1_of(tasks, flagged, task) for task in present}
        unflagged = [f1_of(tasks[~image], guessed[~image], task) for task in present if task != Task.VISION]
        figures = [
            right.mean(), np.mean(list(scores.values())), np.mean(unflagged), scores[Task.GENERAL],
            (flagged[tasks != Task.GENERAL] == Task.GENERAL).mean(), right[chinese].mean(), right[surest].mean(),
            *scores.values(),
        ]  # fmt: skip
        print(f"{name:10}" + " ".join(f"{figure:10.3f}" for figure in figures))


def _print_families(frame: pl.DataFrame, guesses: Guesses) -> None:
    shares = (
        frame.with_columns(right=pl.Series(guesses.tasks) == pl.col("task"))
        .group_by("family")
        .agg(pl.len(), pl.col("right").mean(), licensed=pl.col("licence").is_in(SHIPPABLE).any())
        .sort("family")
    )
    print("\nlearned, by family (* never trained on)")
    for family, rows, right, licensed in shares.iter_rows():
        print(f"  {family:16}{'' if licensed else '*':2}{rows:6}  {right:.3f}")


_COLUMNS = {
    "banking77": "text",
    "clinc150": "text",
    "gsm8k": "question",
    "humaneval": "prompt",
    "wmt22_en_de": "source",
    "wmt22_en_zh": "source",
}
_JOBS: Sequence[tuple[str, Task, Sequence[str]]] = (
    (
        "banking77", Task.CLASSIFICATION,
        (
            "Classify the customer query into one of the banking intents.\n\nQuery: {}\nIntent:",
            "{}\n\nWhich intent does this message express? Answer with the label only.",
            "Which department should handle this message: cards, transfers or top-ups?\n{}",
            "请判断下面客户咨询的意图类别：{}",
            "Ordne die folgende Kundenanfrage einer Kategorie zu: {}",
            "Indique la catégorie de ce message : {}",
        ),
    ),
    (
        "clinc150", Task.CLASSIFICATION,
        (
            "What is the intent of this utterance? {}",
            "Label the request with its domain (travel, banking, home, work).\n\n{}\n\nDomain:",
            "Decide if the utterance is in scope. Answer yes or no.\n{}",
        ),
    ),
    ("clinc150", Task.CREATIVE, ("Write a short story that begins with this line: {}",)),
    ("banking77", Task.GENERAL, ("Summarize in a word: {}", "Extract all names from: {}")),
    (
        "gsm8k", Task.REASONING,
        (
            "Solve the problem. Give the final number after ####.\n\n{}",
            "{}\nLet's think step by step.",
            "解答下面的数学题：{}",
            "Résous ce problème et donne le résultat : {}",
        ),
    ),
    (
        "humaneval", Task.CODE,
        ("Complete the following Python function. Reply with code only.\n\n{}", "补全下面的函数：\n{}"),
    ),
    (
        "wmt22_en_de", Task.TRANSLATION,
        (
            "Translate into German: {}", "English: {}\nGerman:", "{}\n\nÜbersetze den Text ins Deutsche.",
            "How would one say this in German? {}", "Give me the German version of the text.\n\n{}",
            "把下面的英文翻译成德语：{}", "Render for our Berlin office, in German please:\n{}",
        ),
    ),
    (
        "wmt22_en_zh", Task.TRANSLATION,
        ("Translate the text to Chinese.\n{}", "将以下内容译成中文：{}", "次の文を中国語に訳してください：{}"),
    ),
)  # fmt: skip


def _bulk(name: str, folder: Path | None) -> pl.Series:
    """Return the texts of a set of *folder*; without one, those of it that are shipped, or others of its kind."""
    if folder is not None:
        return pl.read_parquet(folder / "bulk" / name / "data.parquet")[_COLUMNS[name]]
    if name in {"gsm8k", "humaneval"}:
        return pl.read_parquet(DATA / "prompts.parquet").filter(source=name)["text"]
    source = name if name in {"banking77", "clinc150"} else "mixed_arenabench"
    return pl.read_parquet(DATA / "payloads.parquet").filter(source=source, kind="prose")["text"]


def _print_jobs(folder: Path | None) -> None:
    """Print what share of the rows of each job is right: the template known, only the texts known, each row alone."""
    print(f"{'template':>9} {'texts':>9} {'alone':>9}  job")
    for name, task, templates in _JOBS:
        payloads = _bulk(name, folder)
        for template in templates:
            texts = pl.Series([template.replace("{}", payload) for payload in payloads])
            no_image = pl.repeat(value=False, n=len(texts), eager=True)
            known = JobClassifier(templates=(template.replace("{}", "{{ text }}"),)).label(texts, no_image)
            seen = JobClassifier().label(texts, no_image)
            shares = [(labels["task"] == task).mean() for labels in (known, seen, classify(texts))]
            print(" ".join(f"{share:9.3f}" for share in shares) + f"  {task}: {template!r} of {name}")


def _print_speed(frame: pl.DataFrame) -> None:
    texts = pl.concat([frame["text"].str.head(170)] * 5)
    classify(texts.head(1))
    start = time.process_time()
    classify(texts)
    rate = len(texts) / (time.process_time() - start)
    print(f"texts of at most 170 characters: {rate:,.0f} rows per CPU-second")
    long = pl.Series(["Summarize: " + "a word 字 " * 120_000])
    start = time.perf_counter()
    classify(long)
    print(f"a text of {len(long[0].encode()) / 1e6:.1f} MB: {1000 * (time.perf_counter() - start):.0f} ms")
    print(f"the weights' file: {(resources.files('pipeline.classify') / 'learned.npz').stat().st_size / 1e6:.2f} MB")
