"""Opens users' zip archives, whose directories may claim anything."""

import io
import zipfile
from typing import BinaryIO


class Clipped:
    """Caps every read at the file's size.

    zipfile asks for what a directory claims, and Python allocates that before it reads.
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
    """Opens a zip archive.

    Args:
      file: open binary file.

    Returns:
      The archive, and the size of the file.

    Raises:
      Exception: almost any kind, if the file is damaged.
    """
    size = size_of(file)
    return zipfile.ZipFile(Clipped(file, size)), size


def size_of(file: BinaryIO) -> int:
    """Returns the size of an open file in bytes, and rewinds the file."""
    size = file.seek(0, io.SEEK_END) or file.tell()
    file.seek(0)
    return size


def read_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, largest: int) -> bytes:
    """Returns the bytes of an entry, and compares its checksum.

    Args:
      archive: the archive from `open_archive`.
      info: the entry.
      largest: the largest size that the entry may have, bytes.

    Raises:
      ValueError: the entry is larger, or is compressed in a way that numpy and PyTorch do not use.
      Exception: almost any kind, if the file is damaged.
    """
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"'{info.filename}' is compressed in a way that is not read")
    if info.file_size > largest:
        raise ValueError(
            f"'{info.filename}' claims {info.file_size:,} bytes, and at most {largest:,} are "
            f"unpacked from this file"
        )
    with archive.open(info) as member:
        # The number matters. Without one, zipfile unpacks two gigabytes before it looks at
        # the size in the directory.
        content = member.read(info.file_size)
    if len(content) != info.file_size:
        raise ValueError(
            f"'{info.filename}' has {len(content):,} bytes instead of {info.file_size:,}"
        )
    return content
