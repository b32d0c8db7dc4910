"""The only package that opens a connection."""

from pipeline.transport.checking import check_base_url, check_headers
from pipeline.transport.connections import connection_limit, open_connections
from pipeline.transport.endpoint import Endpoint
from pipeline.transport.reading import MAX_BODY_BYTES

__all__ = ["MAX_BODY_BYTES", "Endpoint", "check_base_url", "check_headers", "connection_limit", "open_connections"]
