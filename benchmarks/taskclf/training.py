"""Fit the task classifier: one-against-rest linear support vector machines, calibrated on families left out."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import minimize_scalar
from scipy.sparse import csr_matrix, hstack, vstack
from sklearn.svm import LinearSVC

from benchmarks.taskclf.synthesis import Synthesis
from pipeline.classify import rule_votes
from pipeline.classify.features import HASH_BITS, find_grams, looked_at
from pipeline.classify.learned import TASKS, VOTES_CAP, Model, probabilities
from pipeline.records import Task

DATA = Path(__file__).parents[2] / "data" / "taskclf"
SEED = 1
_PER_TEMPLATE = {"en": 60, "zh": 40, "": 30}
_COST = 0.05  # LinearSVC's C; 0.03 to 0.1 do as well on families left out
_VOTE_WEIGHT = 0.3  # of the rules' votes beside the n-grams, in standard deviations
_FORGOTTEN = 0.15  # share of the prompts whose votes are hidden: the rules were written with some of them in view
_MADE_WEIGHT, _REAL_WEIGHT, _REAL_ENOUGH = 0.25, 2.0, 150
_GENERAL_LESS = 0.5  # a hard prompt sent to the general model costs more than an easy one sent elsewhere
_FOLDS = 4
_CERTAIN_LEAD = 4  # from this lead of votes on, the rules are as often right as the model

Floats = npt.NDArray[np.float32]


class Sample(NamedTuple):
    """Prompts as the model sees them."""

    grams: csr_matrix
    votes: Floats
    tasks: npt.NDArray[np.intp]
    weights: npt.NDArray[np.float64]
    families: npt.NDArray[np.str_]

    def where(self, chosen: npt.NDArray[np.bool_]) -> "Sample":
        """Return the prompts that are *chosen*."""
        return Sample(*(part[chosen] for part in self))

    @classmethod
    def joined(cls, samples: Sequence["Sample"]) -> "Sample":
        """Return the prompts of all *samples*."""
        grams, *others = zip(*samples, strict=True)
        return cls(vstack(grams).tocsr(), *(np.concatenate(part) for part in others))


def sample_of(frame: pl.DataFrame, weights: npt.NDArray[np.float64]) -> Sample:
    """Return the prompts of *frame*, which has text, task and family."""
    texts = frame["text"]
    words, kinds = find_grams(looked_at(texts))
    grams = csr_matrix(
        (
            np.concatenate([kind.weights for kind in kinds]),
            (np.tile(words.rows, len(kinds)), np.concatenate([kind.buckets for kind in kinds])),
        ),
        shape=(len(texts), 2**HASH_BITS),
    )
    grams.sum_duplicates()
    grams.eliminate_zeros()
    votes = np.minimum(rule_votes(texts), VOTES_CAP).T.astype(np.float32)
    tasks = np.array([TASKS.index(Task(task)) for task in frame["task"]], dtype=np.intp)
    return Sample(grams, votes, tasks, weights, frame["family"].to_numpy().astype(str))


def made_sample() -> Sample:
    """Return the prompts made from the templates."""
    made = Synthesis(DATA, pl.read_parquet(DATA / "payloads.parquet"), seed=SEED).prompts(_PER_TEMPLATE)
    frame = made.with_columns(family=pl.lit("templates"))
    return sample_of(frame, np.full(len(frame), _MADE_WEIGHT))


def real_sample(frame: pl.DataFrame) -> Sample:
    """Return the prompts of *frame*; those of a family and task weigh no more together than `_REAL_ENOUGH` of them.

    Prompts with an image are left out: the image decides, and their text says nothing of it.
    """
    frame = frame.filter(~pl.col("has_image"))
    alike = frame.select(pl.len().over("family", "task"))["len"].to_numpy()
    return sample_of(frame, _REAL_WEIGHT * np.minimum(1, _REAL_ENOUGH / alike))


def fit(sample: Sample, *, temperature: float = 1.0, certain: Floats | None = None) -> Model:
    """Return the model of *sample*; its scores are margins divided by *temperature*."""
    forgotten = np.random.default_rng(SEED).random(len(sample.tasks)) < _FORGOTTEN
    spread = sample.votes.std(axis=0) + 0.01
    votes = np.where(forgotten[:, None], 0, sample.votes) / spread * _VOTE_WEIGHT
    machine = LinearSVC(C=_COST, random_state=SEED)
    machine.fit(hstack([sample.grams, csr_matrix(votes)]).tocsr(), sample.tasks, sample_weight=sample.weights)
    weights = (machine.coef_ / temperature).astype(np.float32)
    start = machine.intercept_ / temperature
    start[TASKS.index(Task.GENERAL)] -= _GENERAL_LESS
    grams = np.zeros((2**HASH_BITS, 8), dtype=np.float32)
    grams[:, : len(TASKS)] = weights[:, : 2**HASH_BITS].T
    by_vote = (weights[:, 2**HASH_BITS :] / spread * _VOTE_WEIGHT).T
    no_certainty = np.ones(1, dtype=np.float32)
    return Model(
        grams,
        by_vote.astype(np.float32),
        start.astype(np.float32),
        no_certainty if certain is None else certain,
        _CERTAIN_LEAD,
    )


def scores_of(model: Model, sample: Sample) -> Floats:
    """Return what `Model.scores` gives for the texts of *sample*."""
    return np.asarray(sample.grams @ model.grams[:, : len(TASKS)]) + sample.votes @ model.votes + model.start


def left_out_scores(made: Sample, real: Sample, temperature: float = 1.0) -> Floats:
    """Return for each prompt of *real* the scores of a model that saw no prompt of its family."""
    scores = np.zeros((len(real.tasks), len(TASKS)), dtype=np.float32)
    for families in _folds(real.families):
        held = np.isin(real.families, families)
        model = fit(Sample.joined([made, real.where(~held)]), temperature=temperature)
        scores[held] = scores_of(model, real.where(held))
    return scores


def _folds(families: Iterable[str]) -> list[list[str]]:
    """Return the families in `_FOLDS` groups of about as many prompts."""
    names, counts = np.unique(np.asarray(list(families)), return_counts=True)
    by_size = names[np.argsort(-counts, kind="stable")].tolist()
    return [by_size[fold::_FOLDS] for fold in range(_FOLDS)]


def calibrate(scores: Floats, sample: Sample) -> float:
    """Return the temperature at which *scores* of prompts left out give the best likelihood (Guo et al. 2017)."""
    offset = np.zeros(len(TASKS))
    offset[TASKS.index(Task.GENERAL)] = _GENERAL_LESS  # the shift is a choice, not a belief

    def loss(temperature: float) -> float:
        shares = probabilities(((scores + offset) / temperature).astype(np.float32))
        likelihood = np.log(shares[np.arange(len(shares)), sample.tasks] + 1e-9)
        return float(-np.average(likelihood, weights=sample.weights))

    return float(minimize_scalar(loss, bounds=(0.05, 5), method="bounded").x)


def certainty(sample: Sample) -> Floats:
    """Return how often the rules are right by the votes of their lead, never falling with it, from 0 to the cap."""
    ordered = np.sort(sample.votes, axis=1)
    lead = (ordered[:, -1] - ordered[:, -2]).astype(int)
    right = sample.votes.argmax(axis=1) == sample.tasks
    rates = [(right[lead == votes].sum() + 1) / ((lead == votes).sum() + 2) for votes in range(VOTES_CAP + 1)]
    return np.maximum.accumulate(np.array(rates, dtype=np.float32))


def train() -> tuple[Model, Floats, Sample]:
    """Return the model of all prompts in `DATA`, and the scores and prompts it was calibrated on."""
    made, real = made_sample(), real_sample(pl.read_parquet(DATA / "prompts.parquet"))
    raw = left_out_scores(made, real)
    temperature = calibrate(raw, real)
    model = fit(Sample.joined([made, real]), temperature=temperature, certain=certainty(real))
    offset = np.zeros(len(TASKS), dtype=np.float32)
    offset[TASKS.index(Task.GENERAL)] = _GENERAL_LESS
    return model, (raw + offset) / np.float32(temperature) - offset, real
