"""rowroute: run a prompt over every row of a dataset and pay as little as the wanted quality allows."""

__version__ = "0.1.0"
