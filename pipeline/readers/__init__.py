"""The input as a stream of Arrow record batches: Parquet, CSV and JSONL, the same rows in the same order every time."""

from pipeline.readers.opening import open_source
from pipeline.readers.source import Batch, Source

__all__ = ["Batch", "Source", "open_source"]
