"""Has the types of the converters' options, and the options that several converters share."""

import argparse
import math
from typing import Any

# Metavars of options that name a file or a folder.
PATHS = ("DIR", "FILE", "PATH")


class Number:
    """Parses an option that is a number in a range.

    Args:
      kind: int or float.
      low: the least value.
      high: the largest value; infinity sets no bound.
      below: whether `high` itself is too much.
    """

    def __init__(self, kind: type, low: float, high: float = math.inf, *, below: bool = False):
        self.kind, self.low, self.high, self.below = kind, low, high, below

    def __call__(self, value: Any) -> Any:
        what = "a whole number" if self.kind is int else "a number"
        end = (
            ""
            if math.isinf(self.high)
            else f" and {'below' if self.below else 'at most'} {self.high:g}"
        )
        try:
            number = self.kind(value)
            fits = (
                (isinstance(value, str) or number == value)
                and self.low <= number <= self.high
                and math.isfinite(number)
            )
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits or (self.below and number == self.high):
            raise argparse.ArgumentTypeError(
                f"is '{value}': give {what} of at least {self.low:g}{end}"
            )
        return number


def names(text: str) -> tuple[str, ...]:
    """Reads names that commas separate."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def add_val_subjects(parser: argparse.ArgumentParser, example: str, default: str) -> None:
    """Adds the option for the validation subjects.

    Args:
      parser: the subcommand's parser.
      example: names, for the help.
      default: who is held out without the option, in words; "" if the subjects are drawn.
    """
    drawn = "about a tenth of the training frames, drawn by a hash of the names"
    parser.add_argument(
        "--val-subjects",
        type=names,
        help=f"training subjects on which checkpoints are chosen instead, for example {example}; "
        f"default: {f'{default}, or else ' if default else ''}{drawn}",
    )


def add_source(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds the option for the folder with raw files; `text` is its help."""
    parser.add_argument("--source", required=True, metavar="DIR", help=text)


def add_settings(
    parser: argparse.ArgumentParser, settings: tuple[tuple[str, Any, str], ...]
) -> None:
    """Adds the settings of generated data, which are (name, default, help)."""
    for name, default, text in settings:
        option, text = f"--{name.replace('_', '-')}", f"{text} (default {default})"
        parser.add_argument(option, type=_type_of(name, default), default=default, help=text)


def _type_of(name: str, default: Any) -> Any:
    """Returns the type of a setting for generated data.

    A setting with a narrower range is checked where it is used.
    """
    if isinstance(default, str):
        return str
    return (
        Number(float, 0, 1, below=True)
        if name == "noise"
        else Number(int, 0 if name == "seed" else 1)
    )
