"""Reads tables of text: csv files, and files with blanks between numbers."""

import codecs
import csv
from collections.abc import Iterator, Sequence
from typing import TextIO

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import bounds

_MARKS = (",", ";", "\t")


def rows_of(path: str) -> Iterator[list[str]]:
    """Yields the cells of each line that is not empty.

    Cells are separated by the mark that the first line has most often: a comma, a semicolon or a
    tabulator; by blanks if it has none.

    Raises:
      UserError: the file is not a text, a line is too long, or a quotation mark is not closed.
    """
    try:
        with open(path, "rb") as binary:
            encoding = "utf-16" if is_utf16(binary.read(2)) else "utf-8-sig"
        with open(path, encoding=encoding, newline="") as file:
            lines = _lines(path, file)
            first = next(lines, "")
            mark = max(_MARKS, key=first.count)
            if mark not in first:
                for line in (first, *lines) if first else ():
                    if line.strip():
                        yield line.split()
                return
            for row in csv.reader(_chain(first, lines), delimiter=mark, strict=True):
                if any(row):
                    yield [cell.strip() for cell in row]
    except (UnicodeDecodeError, csv.Error, OSError) as error:
        raise UserError(
            f"'{path}' cannot be read as a table ({type(error).__name__}: {error}): save it as csv "
            f"in UTF-8."
        ) from error


def is_utf16(head: bytes) -> bool:
    """Tells whether a file begins with the mark of UTF-16, in which Windows programs save texts."""
    return head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def _lines(path: str, file: TextIO) -> Iterator[str]:
    while line := file.readline(bounds.LINE):
        if len(line) == bounds.LINE:
            raise UserError(
                f"'{path}' has a line of {bounds.LINE:,} characters or more: write a line for each "
                f"frame."
            )
        yield line


def _chain(first: str, lines: Iterator[str]) -> Iterator[str]:
    yield first
    yield from lines


def numbers(cells: Sequence[str], where: str) -> list[float]:
    """Reads numbers; an empty cell is NaN.

    Raises:
      UserError: a cell is not a number.
    """
    try:
        return [float(cell) if cell else float("nan") for cell in cells]
    except ValueError:
        wrong = next(cell for cell in cells if cell and not is_number(cell))
        hint = " (a decimal comma: write a point)" if is_number(wrong.replace(",", ".")) else ""
        raise UserError(
            f"{where} has '{wrong[:60]}' where a number must be{hint}: repair the file."
        ) from None


def is_number(cell: str) -> bool:
    """Tells whether a cell is a number, NaN included."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
