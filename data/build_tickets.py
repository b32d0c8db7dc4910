"""Build data/banking77/tickets.parquet: 40 customer queries, each with one of five topics for a small local model.

    python data/build_tickets.py --source DIR [--output FILE]

DIR holds bulk/banking77/data.parquet, the test queries of Banking77 with their intents. The same source gives the same
rows. Which intents make a topic is said here and nowhere else.
"""

import argparse
import hashlib
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

TICKETS = Path(__file__).parent / "banking77" / "tickets.parquet"
ROWS_PER_TOPIC = 8
SEED = "tickets-1"

# Of the 77 intents, those that a person tells apart at once. The others, as "card_payment_fee_charged", are left out.
TOPICS = {
    "card": ("lost_or_stolen_card", "card_swallowed"),
    "pin": ("change_pin", "pin_blocked"),
    "top up": (
        "automatic_top_up",
        "pending_top_up",
        "top_up_failed",
        "top_up_limits",
        "top_up_reverted",
        "verify_top_up",
    ),
    "exchange": ("exchange_charge", "exchange_rate", "exchange_via_app"),
    "transfer": (
        "cancel_transfer",
        "declined_transfer",
        "failed_transfer",
        "pending_transfer",
        "transfer_not_received_by_recipient",
        "transfer_timing",
    ),
}

SCHEMA = pa.schema(
    [
        pa.field("ticket_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("intent", pa.string(), nullable=False),
        pa.field("gold_label", pa.string(), nullable=False),
    ]
)


def main() -> None:
    """Build the file and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the source sets")
    parser.add_argument("--output", type=Path, default=TICKETS, help="where to write (default: data/banking77)")
    options = parser.parse_args()
    queries = pl.read_parquet(options.source / "bulk" / "banking77" / "data.parquet")
    table = _tickets(queries).select(SCHEMA.names).to_arrow().cast(SCHEMA)
    pq.write_table(table, options.output, compression="zstd", compression_level=19)
    digest = hashlib.sha256(options.output.read_bytes()).hexdigest()
    print(f"{options.output}: {table.num_rows} rows, {options.output.stat().st_size} bytes, sha256 {digest}")


def _tickets(queries: pl.DataFrame) -> pl.DataFrame:
    """Return as many queries of each topic as of any other, in an order that depends on ids and seed alone."""
    topics = {intent: topic for topic, intents in TOPICS.items() for intent in intents}
    known = queries.filter(pl.col("label").is_in(list(topics)))
    digests = [hashlib.sha256(f"{SEED}/{id_}".encode()).hexdigest() for id_ in known["id"]]
    shuffled = known.with_columns(digest=pl.Series(digests), gold_label=pl.col("label").replace_strict(topics))
    drawn = shuffled.sort("digest").group_by("gold_label", maintain_order=True).head(ROWS_PER_TOPIC)
    return drawn.sort("digest").rename({"id": "ticket_id", "label": "intent"})


if __name__ == "__main__":
    main()
