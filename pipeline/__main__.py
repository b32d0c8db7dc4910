"""`python -m pipeline` is `rowroute`."""

from pipeline.cli import main

main()
