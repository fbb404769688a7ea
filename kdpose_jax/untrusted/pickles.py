"""Reads pickles inside users' files without running code from them."""

import contextlib
import pickle
import pickletools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, BinaryIO

from kdpose_jax.errors import UserError
from kdpose_jax.untrusted import bounds
from kdpose_jax.untrusted.archives import Clipped

_TUPLES = ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3")
_PUTS = ("PUT", "BINPUT", "LONG_BINPUT")
_GETS = ("GET", "BINGET", "LONG_BINGET")


class StandIn:
    """Wraps a function of ours that a pickle may call, and cannot change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, unused: Any) -> None:
        raise ValueError("a pickle that alters what it calls")


class _AllowedNamesUnpickler(pickle.Unpickler):
    """Resolves only globals that the caller listed, so a pickle can call nothing else."""

    def __init__(
        self,
        file: BinaryIO | Clipped,
        allowed: Mapping[tuple[str, str], Any],
        place: str,
        remedy: str,
        **options: Any,
    ):
        super().__init__(file, **options)
        self._allowed = allowed
        self._place = place
        self._remedy = remedy

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._allowed[module, name]
        except KeyError:
            raise UserError(
                f"{self._place} holds a pickled '{module}.{name}', which is not array data and "
                f"could run code; it was not loaded: {self._remedy}."
            ) from None


def load_pickle(
    file: BinaryIO | Clipped,
    allowed: Mapping[tuple[str, str], Any],
    place: str,
    persistent_load: Callable[[Any], Any] | None = None,
    remedy: str = "get the file from its original source",
    **options: Any,
) -> Any:
    """Loads one pickle in which only listed globals may occur.

    Args:
      file: open binary file, positioned at the pickle.
      allowed: (module, name) -> the object that stands for this global.
      place: names the file in an error.
      persistent_load: resolves persistent ids (PyTorch storages); None refuses them.
      remedy: tells the user what to do about a global that is not listed.
      **options: go to `pickle.Unpickler` (for example `encoding="latin1"`).

    Returns:
      The object.

    Raises:
      UserError: the pickle names a global that is not listed, asks for more than `bounds` allows,
        or is damaged.
    """
    with _damage(place):
        _refuse_bombs(file)
    unpickler = _AllowedNamesUnpickler(file, allowed, place, remedy, **options)
    if persistent_load is not None:
        # The stubs have a method; CPython reads it from the instance too.
        unpickler.persistent_load = persistent_load  # type: ignore[method-assign]
    with _damage(place):
        return unpickler.load()


class _TooManyError(Exception):
    """Tells that a pickle has more opcodes than `bounds.OPCODES`, which an honest one may."""


def _refuse_bombs(file: BinaryIO | Clipped) -> None:
    """Refuses what no honest pickle of this length has.

    It follows what each opcode takes from the stack and puts on it. Three things are refused. A
    memo index beyond the position asks for gigabytes of memo table in nine bytes. Many opcodes
    without arguments make many objects. A tuple of tuples of tuples is hashed by recursion, each
    time that it occurs.
    """
    start = file.tell()
    values: list[int] = []  # for each object on the stack, how many values it holds
    marks: list[int] = []  # positions of the marks on the stack
    memo: dict[int, int] = {}
    # The stubs ask for all methods of a file; `genops` calls read, readline and tell.
    opcodes = pickletools.genops(file)  # type: ignore[arg-type]
    for count, (code, argument, position) in enumerate(opcodes):
        if count >= bounds.OPCODES:
            raise _TooManyError
        if code.name in _PUTS:
            assert argument is not None and position is not None  # all have one; the file can tell
            if int(argument) > position - start:
                raise ValueError(f"memo index {argument} in its first {position - start} bytes")
            memo[int(argument)] = values[-1]
        elif code.name == "MEMOIZE":
            memo[len(memo)] = values[-1]
        elif code.name in _GETS:
            assert argument is not None  # all have one
            values.append(memo[int(argument)])
        elif code.name == "DUP":
            values.append(values[-1])
        elif code.name == "MARK":
            marks.append(len(values))
        elif code.name == "POP" and marks and marks[-1] == len(values):
            marks.pop()
        else:
            taken = _take(values, marks, code)
            held = 1 + sum(taken) if code.name in _TUPLES else 1
            if held > bounds.TUPLE_VALUES:
                raise ValueError(f"a tuple of more than {bounds.TUPLE_VALUES:,} values")
            values += [held] * len(code.stack_after)
    file.seek(start)


def _take(values: list[int], marks: list[int], code: pickletools.OpcodeInfo) -> list[int]:
    """Takes an opcode's arguments off the stack, down to the last mark if it takes one."""
    if pickletools.markobject in code.stack_before:
        first = marks.pop() - code.stack_before.index(pickletools.markobject)
    else:
        first = len(values) - len(code.stack_before)
    if first < 0:
        raise ValueError(f"nothing on the stack for {code.name}")
    taken = values[first:]
    del values[first:]
    return taken


@contextlib.contextmanager
def _damage(place: str) -> Iterator[None]:
    """Turns errors from a malformed pickle, which can be almost any, into UserError."""
    try:
        yield
    except UserError:
        raise
    except _TooManyError:
        raise UserError(
            f"{place} holds a pickle of more than {bounds.OPCODES:,} opcodes, which is not read: "
            "divide what it holds (a video, for example) into several files."
        ) from None
    except Exception as error:
        what = " ".join(str(error).split())
        raise UserError(
            f"{place} is damaged ({type(error).__name__}: {what}): copy or download it again."
        ) from error
