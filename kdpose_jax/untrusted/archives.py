"""Zip archives of users, whose directories may claim anything."""

import io
import zipfile
from typing import BinaryIO


class Clipped:
    """A file that is asked for no more than it has.

    Its reader asks for what a header claims, and memory is taken before it is read.
    """

    def __init__(self, file: BinaryIO, size: int):
        self._file, self._size = file, size
        self.seek, self.tell = file.seek, file.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(size if 0 <= size <= left else left)

    def readline(self) -> bytes:
        return self._file.readline()


def open_archive(file: BinaryIO) -> tuple[zipfile.ZipFile, int]:
    """Opens an archive.

    Args:
      file: open binary file.

    Returns:
      The archive, and the size of the file.

    Raises:
      Exception: of almost any kind where the file is damaged.
    """
    size = size_of(file)
    return zipfile.ZipFile(Clipped(file, size)), size


def size_of(file: BinaryIO) -> int:
    """The bytes of an open file, which then stands at its start."""
    size = file.seek(0, io.SEEK_END) or file.tell()
    file.seek(0)
    return size


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, largest: int) -> bytes:
    """The bytes of an entry, its checksum compared.

    Args:
      archive: of `open_archive`.
      info: the entry.
      largest: bytes that it may have.

    Raises:
      ValueError: it has more, or another kind of compression than numpy and PyTorch use.
      Exception: of almost any kind where the file is damaged.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"'{info.filename}' is compressed in a way that is not read")
    if info.file_size > largest:
        raise ValueError(
            f"'{info.filename}' claims {info.file_size:,} bytes, and at most {largest:,} are "
            f"unpacked from this file"
        )
    with archive.open(info) as member:
        # With a number: without one, two gigabytes are unpacked before zipfile looks at what the
        # directory says.
        content = member.read(info.file_size)
    if len(content) != info.file_size:
        raise ValueError(
            f"'{info.filename}' has {len(content):,} bytes instead of {info.file_size:,}"
        )
    return content
