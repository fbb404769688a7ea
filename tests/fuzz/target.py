"""One process that fuzzes one reader under atheris: `python -m tests.fuzz.target READER FOLDER
[libFuzzer's options]`.

A reader that raises anything but UserError, says more than one line, asks for more memory than it
may or touches what it has no business with is written down in FOLDER/found, by what went wrong,
with the shortest such input; fuzzing goes on. What ends a process (a fault in C, an input over the
time limit) is libFuzzer's to write down.
"""

import contextlib
import hashlib
import json
import mmap
import os
import pathlib
import random
import resource
import struct
import sys
import traceback
from typing import Any

import atheris

from tests.fuzz.mutate import mutate_json

OURS = ("kdpose_jax", "data_prep", "configs")
# What no reader of a file may do (https://docs.python.org/3/library/audit_events.html).
FORBIDDEN = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "shutil.",
    "socket.",
    "subprocess.",
    "ctypes.dlopen",
)


class Watch:
    """What the reader that runs has done wrong without raising."""

    def __init__(self):
        self.active = False
        self.touched: list[str] = []

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        # Modules are executed when they are imported, from files.
        if self.active and (
            event.startswith(FORBIDDEN)
            or event == "exec"
            and arguments[0].co_filename == "<string>"
        ):
            self.touched.append(event)


def peak_memory() -> int:
    """The most memory that this process has held so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def virtual_memory() -> int:
    """The addresses that this process has now, bytes."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def complaint(error: BaseException) -> str:
    """What is wrong with the exception that a reader raised; "" if it is as it should be."""
    from kdpose_jax.errors import UserError

    if not isinstance(error, UserError):
        frames = traceback.extract_tb(error.__traceback__)
        last = [
            frame for frame in frames if any(f"/{part}/" in frame.filename for part in OURS)
        ] or frames
        place = f"{pathlib.Path(last[-1].filename).name}:{last[-1].name}"
        return f"{type(error).__name__} at {place}: {str(error)[:80]!r}"
    chain, cause = [], error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    if any(
        isinstance(one, MemoryError)
        or "Unable to allocate" in str(one)
        or "nsufficient memory" in str(one)
        for one in chain
    ):
        return f"asks for too much memory: {str(error)[-120:]}"
    said = str(error)
    if not said or len(said) > 16_000 or not said.isprintable():
        return f"says no sentence: {said[:60]!r}"
    return ""


class Findings:
    """Complaints and the shortest input for each."""

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._shortest: dict[str, int] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, said: str, content: bytes) -> None:
        kind = said.split(":")[0]
        if len(content) >= self._shortest.get(kind, sys.maxsize):
            return
        self._shortest[kind] = len(content)
        name = hashlib.sha256(kind.encode()).hexdigest()[:12]
        (self._folder / name).write_text(json.dumps({"said": said, "input": content.hex()}))


def main(name: str, folder: pathlib.Path, options: list[str]) -> None:
    """Fuzzes until the options of libFuzzer say that it is enough."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    with atheris.instrument_imports(include=list(OURS), enable_loader_override=False):
        from kdpose_jax.errors import UserError
        from tests.fuzz.readers import READERS

        reader = READERS[name].open(folder / "files")
    limits, findings = READERS[name], Findings(folder / "found")
    seeds = folder / "seeds"
    seeds.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(reader.seeds):
        (seeds / f"{number:02d}").write_bytes(seed)
    words = folder / "words"
    words.write_text(
        "".join(f'"{"".join(f"{chr(92)}x{byte:02x}" for byte in word)}"\n' for word in reader.words)
    )
    for seed in reader.seeds:  # what a reader imports late is no business of the watch
        with contextlib.suppress(UserError):
            reader.read(seed)
    watch = Watch()
    sys.addaudithook(watch)
    if not (folder / "count").exists():
        (folder / "count").write_bytes(bytes(8))
    # Outlives the process, however it ends.
    count = mmap.mmap(os.open(folder / "count", os.O_RDWR), 8)
    allowed = limits.memory * 2**20
    # LibFuzzer has its own needs.
    resource.setrlimit(resource.RLIMIT_AS, (virtual_memory() + allowed + 512 * 2**20,) * 2)
    peak = peak_memory()
    executions = struct.unpack("<Q", count[:8])[0]

    def one_input(content: bytes) -> None:
        nonlocal peak, executions
        executions += 1
        count[:8] = struct.pack("<Q", executions)
        watch.active, said = True, ""
        try:
            reader.read(content)
        except Exception as error:
            said = complaint(error)
        finally:
            watch.active = False
        if not said and watch.touched:
            said = f"did {watch.touched[0]}"
        watch.touched.clear()
        if peak_memory() > peak + allowed:
            said = f"held more than {limits.memory} MiB"
            peak = peak_memory()
        if said:
            findings.add(said, content)

    arguments = [
        sys.argv[0],
        *options,
        f"-max_len={limits.length}",
        "-rss_limit_mb=0",
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/ended-",
    ]
    if reader.words:
        arguments.append(f"-dict={words}")

    def mutator(content: bytes, longest: int, seed: int) -> bytes:
        changed = mutate_json(content, random.Random(seed))
        return (
            atheris.Mutate(content, longest)
            if changed is None or len(changed) > longest
            else changed
        )

    atheris.Setup(
        [*arguments, str(folder / "corpus"), str(seeds)],
        one_input,
        **({"custom_mutator": mutator} if reader.is_json else {}),
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:])
