"""The only lines that print."""

import os
import re
import sys

import click

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def print_out(text: str, *, err: bool = False) -> None:
    """Print to stdout or stderr, and do not mind when nobody listens any more: behind `head` a run goes on."""
    try:
        click.echo(text, err=err)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), (sys.stderr if err else sys.stdout).fileno())


def say(text: str) -> None:
    """Print to stderr; a row's text must not drive the terminal."""
    print_out(printable(text), err=True)


def printable(text: str) -> str:
    """Return *text* without what could drive a terminal."""
    return _CONTROL.sub("", text)
