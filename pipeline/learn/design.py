"""Ridge regression on texts, with predictions of every row by a model that has not seen it, nor the rest of its fold.

The words' kernel (cosine of tf-idf, so that each text weighs the same) is reduced to at most `LANDMARKS` dimensions by
Nystroem's method (Williams and Seeger 2001) and decomposed once. After that a ridge of any strength is a few products,
and so is what it would predict of a fold had it not seen the fold: by the fold's block of the hat matrix, as Allen's
PRESS (1974) does for single rows. Whole folds, because where the expectations of two arms tie, leaving out a single row
would tip the balance against that very row.
"""

from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.policy.features import SHAPES, Floats, Ints, terms
from pipeline.policy.model import Linear, Words, scaled_shapes, weighted

LANDMARKS = 1_500
_LEAST_ROWS = 2  # that hold a word, before it is worth a weight
_HEAVY = 48  # landmarks that hold a term, from which it is multiplied as a dense column
_SHAPE_SHARE = 0.1  # of the shapes in the kernel, beside 1 for the words


class Matrix(NamedTuple):
    """A sparse matrix: row, column, value."""

    row: Ints
    column: Ints
    value: Floats
    shape: tuple[int, int]


class Ridge:
    """Ridge regression of many targets on one matrix of features, all of them centred."""

    def __init__(self, features: Floats, folds: Ints) -> None:
        self.mean = features.mean(axis=0)
        centred = features - self.mean
        spread, self._axes = np.linalg.eigh(centred.T @ centred)
        self._spread = np.maximum(spread, 0.0)
        self._rotated = centred @ self._axes
        self._known_corrections: dict[float, list[Floats]] = {}
        self._folds = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]

    def left_out(self, targets: Floats, strength: float) -> Floats:
        """Return each row's prediction by the ridge that was fitted without its fold."""
        centre = targets.mean(axis=0)
        along = (self._rotated.T @ (targets - centre)) / (self._spread + strength)[:, None]
        errors = targets - centre - self._rotated @ along
        for rows, correction in zip(self._folds, self._corrections(strength), strict=True):
            errors[rows] = correction @ errors[rows]
        return np.asarray(targets - errors)

    def _corrections(self, strength: float) -> list[Floats]:
        """Return, for each fold, what makes the errors on it those of a ridge without it."""
        if strength not in self._known_corrections:
            roots = self._rotated / np.sqrt(self._spread + strength)
            self._known_corrections[strength] = [
                np.linalg.inv(np.eye(len(rows)) - roots[rows] @ roots[rows].T - 1 / len(roots)) for rows in self._folds
            ]
        return self._known_corrections[strength]

    def weights(self, targets: Floats, strength: float) -> tuple[Floats, Floats]:
        """Return a column of weights and a constant for each target."""
        centre = targets.mean(axis=0)
        weights = self._axes @ ((self._rotated.T @ (targets - centre)) / (self._spread + strength)[:, None])
        return weights, centre - self.mean @ weights


class Design:
    """The texts of one table, ready for ridges on their words and shapes."""

    def __init__(self, texts: pl.Series, folds: Ints, rng: np.random.Generator) -> None:
        counted = terms(texts)
        known, frequency = np.unique(counted.term, return_counts=True)
        keep = frequency >= _LEAST_ROWS
        if not keep.any():
            keep[:] = True
        weight = 1 + np.log((1 + len(texts)) / (1 + frequency[keep]))
        mean, spread = counted.shapes.mean(axis=0), counted.shapes.std(axis=0)
        self.words = Words(known[keep], weight, mean, spread + 1e-9)
        self._matrix = Matrix(*weighted(self.words, counted), (len(texts), len(weight)))
        self._landmarks = np.sort(rng.permutation(len(texts))[:LANDMARKS])
        cross = gram(self._matrix, self._landmarks)
        values, axes = np.linalg.eigh(cross[self._landmarks])
        kept = values > 1e-6 * values[-1]
        self._to_features = axes[:, kept] / np.sqrt(values[kept])
        self._shape_scale = np.sqrt(_SHAPE_SHARE / SHAPES)
        features = [cross @ self._to_features, scaled_shapes(self.words, counted) * self._shape_scale]
        self.features = np.concatenate(features, axis=1)
        self.ridge = Ridge(self.features, folds)

    def linear(self, parts: list[tuple[Floats, float]]) -> Linear:
        """Return the ridges of (targets, strength) as functions of words and shapes, side by side."""
        fitted = [self.ridge.weights(targets, strength) for targets, strength in parts]
        weights = np.concatenate([weight for weight, _ in fitted], axis=1)
        constant = np.concatenate([constant for _, constant in fitted])
        dimensions = self._to_features.shape[1]
        of_landmarks = self._to_features @ weights[:dimensions]
        return Linear(self._of_words(of_landmarks), weights[dimensions:] * self._shape_scale, constant)

    def _of_words(self, of_landmarks: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        """Return the weights of the terms that give the landmarks' weights: a sum over the landmarks' own terms."""
        row, column, value, (rows, columns) = self._matrix
        place = np.full(rows, -1)
        place[self._landmarks] = np.arange(len(self._landmarks))
        mine = place[row] >= 0
        place, column, value = place[row[mine]], column[mine], value[mine]
        sums = [np.bincount(column, value * weights[place], minlength=columns) for weights in of_landmarks.T]
        return np.stack(sums, axis=1).astype(np.float32)


def gram(matrix: Matrix, landmarks: Ints) -> Floats:
    """Return the products of every row of *matrix* with each of its rows *landmarks*.

    Terms that many landmarks hold are multiplied as dense columns, the others pair by pair.
    """
    row, column, value, (rows, columns) = matrix
    place = np.full(rows, -1)
    place[landmarks] = np.arange(len(landmarks))
    is_landmark = place[row] >= 0
    holders = np.bincount(column[is_landmark], minlength=columns)
    heavy = holders > _HEAVY
    result = _dense_products(matrix, heavy, landmarks)
    light = is_landmark & ~heavy[column]
    order = np.argsort(column[light], kind="stable")
    light_place, light_value = place[row[light]][order], value[light][order]
    first = np.cumsum(np.where(heavy, 0, holders)) - np.where(heavy, 0, holders)
    others = ~heavy[column]
    row, column, value = row[others], column[others], value[others]
    flat = result.reshape(-1)
    for rank in range(_HEAVY):
        has = holders[column] > rank
        if not has.any():
            break
        row, column, value = row[has], column[has], value[has]
        partner = first[column] + rank
        flat += np.bincount(
            row * len(landmarks) + light_place[partner], value * light_value[partner], minlength=len(flat)
        )
    return result


def _dense_products(matrix: Matrix, heavy: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], landmarks: Ints) -> Floats:
    row, column, value, (rows, _) = matrix
    place = np.cumsum(heavy) - 1
    mine = heavy[column]
    dense = np.zeros((rows, int(heavy.sum())), np.float32)
    dense[row[mine], place[column[mine]]] = value[mine]
    return (dense @ dense[landmarks].T).astype(np.float64)
