"""The mix line: what a coin between two single models gives for the money that routing costs."""

from collections.abc import Iterator, Mapping

import polars as pl

from pipeline.compare import intervals
from pipeline.compare.arm import Arm
from pipeline.compare.night import PARTS


def mix_of(best: Arm, cheapest: Arm, settled: pl.DataFrame) -> Arm:
    """Return the mix of two single models, row by row at random, that costs what the *settled* rows were billed.

    A router that is worth its name beats it: the mix needs no look at the row. Costs and scores are the expected ones,
    on the rows that both models answered.
    """
    nothing = Arm("single_mix", None, best.lines.clear(), ("no two models to mix",))
    if not best.lines.height or not cheapest.lines.height:
        return nothing
    both = best.lines.join(
        cheapest.lines.select("row", *(pl.col(name).alias(f"cheap_{name}") for name in _MIXED), cheap_ok="answered"),
        on="row",
        maintain_order="left",
    )
    routed = both.select("row").join(settled.select("row", "cost", "quality"), on="row", maintain_order="left")
    share = _share(_total(routed, "cost"), _total(both, "cost"), _total(both, "cheap_cost"))
    lines = both.with_columns(
        *((pl.col(name) * share + pl.col(f"cheap_{name}") * (1 - share)).alias(name) for name in _MIXED),
        answered=pl.col("answered") & pl.col("cheap_ok"),
        latency=pl.lit(None, pl.Float64),
        **{part: pl.lit(None) for part in PARTS},
    ).with_columns(pl.col("cost", "input", "output").round().cast(pl.Int64))
    if not lines.height:
        return nothing
    mixed = f"{share:.1%} of the rows on the best single model, the others on the cheapest"
    gain = _gain(routed, lines)
    name = f"{best.model} / {cheapest.model}"
    return Arm("single_mix", name, lines, (mixed, *_against(gain, share)), gain)


_MIXED = ("cost", "input", "output", "quality")


def _share(routed: int, dear: int, cheap: int) -> float:
    """Return the share of the dear model at which the mix costs as much as *routed*, from 0 to 1."""
    return 1.0 if dear <= cheap else min(max((routed - cheap) / (dear - cheap), 0.0), 1.0)


def _total(lines: pl.DataFrame, column: str) -> int:
    return int(lines.select(pl.col(column).cast(pl.Int128).sum()).item())


def _gain(routed: pl.DataFrame, mixed: pl.DataFrame) -> dict[str, float]:
    """Return the mean of the routed quality minus the mix's, with its interval; nothing where nobody scored."""
    paired = pl.DataFrame({"routed": routed["quality"], "mix": mixed["quality"]}).drop_nulls()
    if not paired.height:
        return {}
    differences = (paired["routed"] - paired["mix"]).to_numpy()
    low, high = intervals.of_difference(differences)
    return {"gain": float(differences.mean()), "gain_low": low, "gain_high": high}


def _against(gain: Mapping[str, float], share: float) -> Iterator[str]:
    if gain:
        mean, low, high = (f"{100 * gain[name]:+.1f}" for name in ("gain", "gain_low", "gain_high"))
        cost = "at the same cost" if 0 < share < 1 else "which costs less" if share else "which costs more"
        yield f"routed against this mix, {cost}: {mean} [{low}, {high}] points"
