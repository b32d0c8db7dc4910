"""The policy file: one .npz of plain arrays and a JSON header. It is data only: nothing in it can run."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.errors import JobError
from pipeline.files import whole_file
from pipeline.policy.arms import Arm
from pipeline.policy.model import Linear, Predictor, Words

FORMAT = 2
_TABLES = ("subject_scores", "subject_costs", "pattern_scores")
_ARRAYS = ("known", "weight", "shape_mean", "shape_scale", "of_words", "of_shapes", "constant", *_TABLES)


class Promise(NamedTuple):
    """What the policy promises, and how it was tested."""

    reference: str
    quality: float  # share of the reference's mean score
    confidence: float
    night_rows: int  # rows of the night it is promised for; 0: of endless nights
    kept: bool  # False: it can't be kept cheaply, and every row goes to the reference
    expected_quality: float  # mean score on rows not seen
    reference_quality: float
    expected_cost: float  # mean cost a row
    reference_cost: float


class Policy(NamedTuple):
    """Which arm gets which row, and why: a menu of arms, what to expect of them, and the price of money."""

    arms: tuple[Arm, ...]
    predictor: Predictor
    price: float  # score that a unit of cost must gain
    fixed: str | None  # the arm that every row gets; None: the best for its price
    usual: int  # the arm, as a position, that most of the rows learned from would get
    upgrade_cap: float  # share of a batch that may get an arm dearer than the usual one
    mean_costs: tuple[float, ...]  # of each arm
    promise: Promise
    provenance: dict[str, Any]  # rows, seed, digest of the data, date, unit of cost, why


def save_policy(policy: Policy, path: Path) -> None:
    """Write *policy* to *path*, whole or not at all."""
    predictor = policy.predictor
    header = {
        "format": FORMAT,
        "arms": [list(arm.models) for arm in policy.arms],
        "price": policy.price,
        "fixed": policy.fixed,
        "usual": policy.usual,
        "upgrade_cap": policy.upgrade_cap,
        "mean_costs": list(policy.mean_costs),
        "sharpness": predictor.sharpness,
        "pattern_sharpness": predictor.pattern_sharpness,
        "promise": policy.promise._asdict(),
        "provenance": policy.provenance,
    }
    arrays = {**predictor.words._asdict(), **predictor.linear._asdict()}
    arrays |= {name: getattr(predictor, name) for name in _TABLES}
    with whole_file(path) as partial, partial.open("wb") as file:
        text = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
        np.savez_compressed(file, allow_pickle=False, header=text, **arrays)


def load_policy(path: Path) -> Policy:
    """Read the policy at *path*.

    Raises:
        JobError: when it can't be read, is no policy, or is of another format.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            header = json.loads(bytes(file["header"]))
            if header["format"] != FORMAT:
                raise JobError(
                    f"{path}: is a policy of format {header['format']}; this version reads {FORMAT}: fit anew"
                )
            return _policy(header, {name: file[name] for name in _ARRAYS})
    except OSError as error:
        raise JobError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise JobError(f"{path}: is no policy file of `rowroute route fit`: {error}") from error


def _policy(header: dict[str, Any], arrays: dict[str, Any]) -> Policy:
    words = Words(*(arrays[name] for name in Words._fields))
    linear = Linear(*(arrays[name] for name in Linear._fields))
    arms = tuple(Arm(tuple(models)) for models in header["arms"])
    if {arrays[name].shape[1] for name in _TABLES} != {len(arms)} or len(words.known) != len(linear.of_words):
        raise ValueError("its parts do not fit each other")
    predictor = Predictor(
        words=words,
        linear=linear,
        sharpness=header["sharpness"],
        pattern_sharpness=header["pattern_sharpness"],
        **{name: arrays[name] for name in _TABLES},
    )
    return Policy(
        arms=arms,
        predictor=predictor,
        price=header["price"],
        fixed=header["fixed"],
        usual=header["usual"],
        upgrade_cap=header["upgrade_cap"],
        mean_costs=tuple(header["mean_costs"]),
        promise=Promise(**header["promise"]),
        provenance=header["provenance"],
    )
