"""The columns of comparison.parquet: one row per scope and arm."""

import pyarrow as pa

_USD = pa.decimal128(38, 12)

CONFUSED = pa.struct([("label", pa.string()), ("answer", pa.string()), ("rows", pa.int64())])

_COLUMNS: tuple[tuple[str, pa.DataType, str], ...] = (
    (
        "scope",
        pa.string(),
        'which rows: "all", "task=code", "model=gpt-4o-mini" (who answered, or was to), "column=value"',
    ),
    ("arm", pa.string(), "routed, baseline, best_single, cheapest_single, single_mix; baseline_again where asked for"),
    ("model", pa.string(), "the models of the arm, most rows first; null where there is none"),
    ("rows", pa.int64(), "rows of the arm: of routed all, of the others those it has a cost for, none pending"),
    ("ok", pa.int64(), "rows with an answer; null for an estimated baseline, as nobody asked it"),
    ("failed", pa.int64(), "rows without; of a recorded answer: a blank one"),
    ("blocked", pa.int64(), "rows refused by a content policy; routed only"),
    ("truncated", pa.int64(), "rows whose answer was cut at the token limit; routed only"),
    ("pending", pa.int64(), "rows not asked yet: in no figure but their cost so far; routed only"),
    ("input_tokens", pa.int64(), "billed, cached ones included; a request shared by rows counts once"),
    ("output_tokens", pa.int64(), "billed, reasoning included"),
    ("cost_usd", _USD, "everything billed for the rows, failed attempts and escalations included; null without rows"),
    ("judge_cost_usd", _USD, "the part of cost_usd, and of baseline_cost_usd, that the judge of these rows was billed"),
    ("cost_kind", pa.string(), "measured, when the usage of every row was; otherwise estimated"),
    ("measured_rows", pa.int64(), "rows whose usage was measured"),
    ("baseline_cost_usd", _USD, "the baseline's cost of the rows that this arm answered"),
    ("saving", pa.float64(), "1 - cost_usd / baseline_cost_usd; null where the baseline is free"),
    ("saving_low", pa.float64(), "95% interval; null for fewer than forty rows"),
    ("saving_high", pa.float64(), ""),
    ("saving_verdict", pa.string(), "cheaper, no significant saving, dearer, too few rows to say"),
    ("metric", pa.string(), '"mixed" where rows of the scope are scored by different ones'),
    ("scored", pa.int64(), "rows with quality: n of the next three"),
    ("quality", pa.float64(), "mean score, 0 to 1; a lost row scores 0"),
    ("quality_low", pa.float64(), "95% interval"),
    ("quality_high", pa.float64(), ""),
    ("corpus_metric", pa.string(), "macro-F1, corpus BLEU, corpus chrF or chrF++; null where the mean is all there is"),
    ("corpus_score", pa.float64(), "0 to 1, of the same rows taken together"),
    ("confusion", pa.list_(CONFUSED), "of labels, most rows first, at most 1,000 pairs"),
    ("paired", pa.int64(), "rows with quality in this arm and the baseline: n of the next four"),
    ("delta", pa.float64(), "mean of quality minus the baseline's on the same rows"),
    ("delta_low", pa.float64(), "95% interval"),
    ("delta_high", pa.float64(), ""),
    ("verdict", pa.string(), "better, not worse (within one point), worse, too few rows to say"),
    ("gain", pa.float64(), "single_mix only: the mean of the routed quality minus this mix's, which costs the same"),
    ("gain_low", pa.float64(), "95% interval: above 0, routing beats a coin between two models"),
    ("gain_high", pa.float64(), ""),
    ("latency_p50_s", pa.float64(), "seconds, of rows with an answer and a known latency"),
    ("latency_p95_s", pa.float64(), ""),
    ("note", pa.string(), "what is missing or estimated, and why"),
)

COMPARISON_SCHEMA = pa.schema(
    [pa.field(name, kind, metadata={"description": text} if text else None) for name, kind, text in _COLUMNS],
)
"""Each field's metadata holds its description. Totals are wider than a row's decimal128(18,12)."""
