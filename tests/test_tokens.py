"""Token estimates: near enough to plan with, whatever the script."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tokens import estimate_tokens

# Texts with their count by the vocabulary o200k_base.
PLAIN = {
    "english": ("The quick brown fox jumps over the lazy dog. " * 8, 81),
    "python": (
        'def add(a: int, b: int) -> int:\n    """Return the sum."""\n    return a + b\n\nassert add(1, 2) == 3\n' * 4,
        148,
    ),
    "javascript": (
        "const total = items.filter((item) => item.active).map((item) => item.price * item.count)"
        ".reduce((a, b) => a + b, 0);\n" * 3,
        111,
    ),
    "json": ('{"id": 17, "name": "Ada", "tags": ["a", "b"], "score": 0.875, "active": true}\n' * 5, 170),
    "csv": ("2024-01-31,north,1523.50,17,0.034\n2024-02-29,south,982.10,9,0.021\n" * 5, 195),
}
OTHER = {
    "chinese": ("人工智能正在改变我们的生活方式，许多公司都在使用大型语言模型来处理日常工作。" * 5, 115),
    "japanese": ("今日はとても天気がいいので、公園を散歩してからコーヒーを飲みに行きました。" * 5, 130),
    "korean": ("정부는 어제 전국의 중소기업을 지원하기 위한 새로운 대책을 발표했습니다. " * 5, 101),
    "german": (
        "Die Bundesregierung hat gestern beschlossen, die Förderung für erneuerbare Energien deutlich zu erhöhen." * 4,
        69,
    ),
    "french": (
        "Hier, le gouvernement a annoncé de nouvelles mesures pour soutenir les petites entreprises dans les régions. "
        * 4,
        73,
    ),
    "italian": (
        "Il governo ha annunciato ieri nuove misure per sostenere le piccole imprese in tutte le regioni del paese. "
        * 3,
        76,
    ),
    "russian": (
        "Сегодня правительство объявило о новых мерах поддержки малого и среднего бизнеса в регионах страны. " * 4,
        77,
    ),
    "arabic": ("أعلنت الحكومة أمس عن إجراءات جديدة لدعم الشركات الصغيرة في جميع أنحاء البلاد. " * 3, 47),
    "hindi": ("सरकार ने कल पूरे देश में छोटे व्यवसायों की सहायता के लिए नए उपायों की घोषणा की। " * 3, 62),
    "mixed": ("用 Python 写一个函数 merge_sort(items)，并解释 its time complexity。\n" * 5, 75),
}


def one(text: str | None) -> int:
    """Return the estimate for one text."""
    return int(estimate_tokens(pl.Series([text], dtype=pl.String))[0])


@pytest.mark.parametrize("kind", PLAIN)
def test_english_and_code_are_close_to_the_count(kind: str) -> None:
    """For English, code and data an estimate is within a twentieth of the real count."""
    text, tokens = PLAIN[kind]
    assert one(text) == pytest.approx(tokens, rel=0.05)


@pytest.mark.parametrize("language", OTHER)
def test_other_languages_are_near_the_count(language: str) -> None:
    """For other languages an estimate is seldom too low, and at most by a fifth, which would be the dearer mistake."""
    text, tokens = OTHER[language]
    assert 0.8 <= one(text) / tokens <= 1.55


@given(st.lists(st.one_of(st.none(), st.text()), max_size=8))
def test_estimates_are_total_and_independent(texts: list[str | None]) -> None:
    """Every text has an estimate, at least 1 unless it is empty, and the same whatever stands beside it."""
    series = pl.Series(texts, dtype=pl.String)
    estimates = estimate_tokens(series)
    assert estimates.dtype == pl.Int64
    assert estimates.to_list() == [one(text) for text in texts]
    assert all((count >= 1) == bool(text) for text, count in zip(texts, estimates.to_list(), strict=True))


def test_a_batch_of_megabytes_has_the_estimates_of_its_texts() -> None:
    """Texts of more bytes than are taken at a time have the estimates they have alone, and part of a column too."""
    few = [None, "", *(text for text, _ in (PLAIN | OTHER).values())]
    series = pl.Series(few * 400)
    alone = [one(text) for text in few]
    assert estimate_tokens(series).to_list() == alone * 400
    assert estimate_tokens(series[3:20]).to_list() == (alone * 2)[3:20]


@pytest.mark.parametrize("dtype", [pl.String, pl.Null])
def test_no_texts(dtype: pl.DataType) -> None:
    """No texts have no estimates."""
    assert estimate_tokens(pl.Series([], dtype=dtype)).to_list() == []


def test_estimates_grow_with_the_text() -> None:
    """A text repeated 400 times has 400 times its tokens, give or take the rounding."""
    part = "some words, 123 numbers\n" * 100
    assert one(part * 400) == pytest.approx(400 * one(part), rel=0.01)
