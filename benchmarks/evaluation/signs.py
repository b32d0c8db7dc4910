"""What an answer to a word problem shows of itself: its sums done again, numbers left unused, doubt, length."""

import ast
import operator
import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl

from pipeline.policy.features import Floats

_NUMBER = re.compile(r"\d[\d,]{0,40}(?:\.\d{1,40})?")
_EQUATION = re.compile(r"([\d.,$%()\s*/×x÷+-]{3,80})=\s*\$?\s*(-?\d[\d,]{0,40}(?:\.\d{1,40})?)")
_PLAIN = str.maketrans({",": None, "$": None, "×": "*", "x": "*", "÷": "/"})
_OPERATIONS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_ROUNDED = 0.011  # of the value, or of 1: how far a rounded result may be off
_SENTENCE = re.compile(r"[.!?](?:\s|$)")
_OF_DOUBT = ("assum", "however", "approximately", "not ")


class Arithmetic(NamedTuple):
    """The equations of an answer: what they say they come to, and how many of them are wrong."""

    results: list[float]
    wrong: int


def arithmetic(answer: str) -> Arithmetic:
    """Do every sum of *answer* again that stands before an equals sign."""
    results, wrong = [], 0
    for found in _EQUATION.finditer(answer):
        value = _value(found[1])
        if value is not None:
            results.append(_number(found[2]))
            wrong += abs(value - results[-1]) > _ROUNDED * max(1.0, abs(value))
    return Arithmetic(results, wrong)


def signs(prompts: pl.Series, answers: pl.Series) -> Floats:
    """Return the signs of each answer, a row each."""
    return np.array([_signs(prompt, answer or "") for prompt, answer in zip(prompts, answers, strict=True)])


def _signs(prompt: str, answer: str) -> list[float]:
    given, used = _NUMBER.findall(prompt), _NUMBER.findall(answer)
    last = _number(used[-1]) if used else 0.0
    results, wrong = arithmetic(answer)
    unused = sum(number not in used for number in given)
    flags = [
        last != int(last), bool(used) and "." in used[-1], used[-1:] == used[-2:-1], "-" in answer[-60:],
        bool(results), wrong > 0, last in results, bool(results) and last == results[-1],
        last in map(_number, given), "half" in prompt, "twice" in prompt or "times" in prompt,
        answer.rstrip()[-1:] in (".", "!"), *(word in answer.lower() for word in _OF_DOUBT),
    ]  # fmt: skip
    sizes = [
        len(answer), answer.count("\n"), len(used), unused, len(given), answer.count("="), abs(last), len(results),
        wrong, len(set(used) - set(given)), prompt.count("%"), len(_SENTENCE.findall(prompt)),
        len(_SENTENCE.findall(answer)),
    ]  # fmt: skip
    shares = [unused / (1 + len(given)), len(answer) / (1 + len(prompt)), float(len(given) - len(results))]
    return [*map(float, flags), *np.log1p(sizes), *shares]


def _number(text: str) -> float:
    return float(text.replace(",", ""))


def _value(text: str) -> float | None:
    """Return what a sum such as `(3 + 4) x 20%` comes to; None for what is none."""
    try:
        tree = ast.parse(text.translate(_PLAIN).replace("%", "/100").strip(), mode="eval").body
        return _of(tree) if isinstance(tree, ast.BinOp) else None
    except (SyntaxError, ValueError, ArithmeticError, RecursionError):
        return None


def _of(node: ast.AST) -> float:
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        return _OPERATIONS[type(node.op)](_of(node.left), _of(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_of(node.operand)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    raise ValueError("no sum")
