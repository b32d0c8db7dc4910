"""Token estimates: near enough to plan with, whatever the script."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokens import estimate_tokens

# Texts with their count by the vocabulary o200k_base.
COUNTED = [
    ("The quick brown fox jumps over the lazy dog. " * 8, 81),
    (
        'def add(a: int, b: int) -> int:\n    """Return the sum."""\n    return a + b\n\nassert add(1, 2) == 3\n' * 4,
        148,
    ),
    ("人工智能正在改变我们的生活方式，许多公司都在使用大型语言模型来处理日常工作。" * 5, 115),
    ("今日はとても天気がいいので、公園を散歩してからコーヒーを飲みに行きました。" * 5, 130),
    (
        "Die Bundesregierung hat gestern beschlossen, die Förderung für erneuerbare Energien deutlich zu erhöhen." * 4,
        69,
    ),
    ("Сегодня правительство объявило о новых мерах поддержки малого и среднего бизнеса в регионах страны. " * 4, 77),
    (
        "Hier, le gouvernement a annoncé de nouvelles mesures pour soutenir les petites entreprises dans les régions. "
        * 4,
        73,
    ),
]


def one(text: str | None) -> int:
    """Return the estimate for one text."""
    return int(estimate_tokens(pl.Series([text], dtype=pl.String))[0])


@pytest.mark.parametrize(("text", "tokens"), COUNTED, ids=[str(number) for number in range(len(COUNTED))])
def test_an_estimate_is_near_the_count(text: str, tokens: int) -> None:
    """For text of any script an estimate is never below 0.7 nor above 1.7 of the real count."""
    assert 0.7 <= one(text) / tokens <= 1.7


@given(st.lists(st.one_of(st.none(), st.text()), max_size=8))
def test_estimates_are_total_and_independent(texts: list[str | None]) -> None:
    """Every text has an estimate, at least 1 unless it is empty, and the same whatever stands beside it."""
    series = pl.Series(texts, dtype=pl.String)
    assert estimate_tokens(series).to_list() == [one(text) for text in texts]
    assert all((count >= 1) == bool(text) for text, count in zip(texts, estimate_tokens(series).to_list(), strict=True))


def test_a_huge_text_is_told_from_its_beginning() -> None:
    """A megabyte counts a thousand times what its thousandth part does."""
    part = "some words, 123 numbers\n" * 100
    assert abs(one(part * 400) / one(part) / 400 - 1) < 0.01
