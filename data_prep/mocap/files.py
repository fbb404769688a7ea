"""Finds a folder's motion files, who moves in them, and which options apply to them."""

import fnmatch
import os
import re

from data_prep import synthetic
from data_prep.mocap.skeletons import UNITS
from kdpose_jax.errors import UserError

FPS_RANGE = (10.0, 2000.0)
TEST_SHARE = 0.2  # share of the subjects, if the user names none
ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz", ".bz2", ".xz")


def find_files(source: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Finds the motion files in a folder and below.

    Returns:
      (motion file, its ASF file or ""), sorted; and the AMC files that have no ASF file.

    Raises:
      UserError: there is no folder, it has no motion, or a name is not text.
    """
    if not os.path.isdir(source):
        unpack = "unpack it, and " if source.lower().endswith(ARCHIVES) else ""
        raise UserError(
            f"--source '{source}' is not a folder: {unpack}give the folder that holds *.bvh, or "
            "*.asf and *.amc files."
        )
    # Large data sets are linked in from other disks. A link may lead back, or to a folder that is
    # here anyway.
    own = {folder: os.path.realpath(folder) for folder, *_ in os.walk(source)}
    folders, seen = {}, set(own.values())
    for folder, below, names in os.walk(source, followlinks=True):
        if folder not in own:
            place = os.path.realpath(folder)
            if place in seen:
                below.clear()
                continue
            seen.add(place)
        folders[folder] = sorted(
            name for name in names if not name.startswith(".")
        )  # macOS puts ._07_01.amc into archives
    skeletons = {
        folder: [name for name in names if name.lower().endswith(".asf")]
        for folder, names in folders.items()
    }
    found, without = [], []
    for folder, names in folders.items():
        found += [
            (os.path.join(folder, name), "") for name in names if name.lower().endswith(".bvh")
        ]
        for name in (name for name in names if name.lower().endswith(".amc")):
            skeleton = _skeleton(skeletons, folders[folder], folder, name)
            found += [(os.path.join(folder, name), skeleton)] if skeleton else []
            without += [] if skeleton else [os.path.join(folder, name)]
    if not found and not without:
        packed = [
            name for names in folders.values() for name in names if name.lower().endswith(ARCHIVES)
        ]
        remedy = f"unpack '{packed[0]}', and give" if packed else "give"
        raise UserError(
            f"'{source}' holds no *.bvh and no *.amc file: {remedy} the folder of the unpacked "
            "motion."
        )
    for path in (path for pair in found for path in pair):
        # Files give takes their names, which records store in UTF-8.
        if path != path.encode(errors="replace").decode():
            raise UserError(f"'{path}' has a name that is not UTF-8: rename the file.")
    return sorted(found), sorted(without)


def no_skeleton(path: str) -> str:
    """Says what is wrong with an AMC file that has no ASF file."""
    return (
        f"'{path}' has no skeleton: put its *.asf file beside it, named like it up to its number "
        "(07.asf for 07_01.amc)"
    )


def is_named_after(motion: str, skeleton: str) -> bool:
    """Tells whether a motion file is named after a skeleton; 10_01.amc is not after 1.asf."""
    stem, name = (
        os.path.splitext(os.path.basename(path))[0].lower() for path in (skeleton, motion)
    )
    rest = name.removeprefix(stem)
    return name.startswith(stem) and not (stem[-1:].isdigit() and rest[:1].isdigit())


def _skeleton(skeletons: dict[str, list[str]], beside: list[str], folder: str, name: str) -> str:
    """Returns an AMC file's ASF file, "" if it has none.

    It is the one that the AMC file is named after. It lies beside the AMC file, in a folder above
    (HDM05) or, if there is only one such, anywhere. Otherwise it is the only one beside it, if no
    motion is named after that one.
    """
    above = folder
    while above in skeletons:
        fitting = [one for one in skeletons[above] if is_named_after(name, one)]
        if fitting:
            return os.path.join(above, max(fitting, key=len))
        above = os.path.dirname(above)
    fitting = [
        os.path.join(place, one)
        for place, names in skeletons.items()
        for one in names
        if is_named_after(name, one)
    ]
    if len(fitting) == 1:
        return fitting[0]
    if len(skeletons[folder]) != 1:
        return ""
    (only,) = skeletons[folder]
    taken = any(one.lower().endswith(".amc") and is_named_after(one, only) for one in beside)
    return "" if taken else os.path.join(folder, only)


def take_names(source: str, paths: list[str]) -> list[str]:
    """Names the files' takes after the files, without the part behind the dot.

    Raises:
      UserError: two takes have the same name.
    """
    names = [os.path.splitext(os.path.relpath(path, source))[0] for path in paths]
    first = dict(zip(reversed(names), reversed(paths), strict=True))
    for name, path in zip(names, paths, strict=True):
        if first[name] != path:
            raise UserError(
                f"'{path}' and '{first[name]}' have one name: rename one, or leave one out."
            )
    return names


def parse_unit(unit: str) -> float:
    """Converts a unit's name or number to metres; 0 for no unit."""
    try:
        metres = UNITS[unit] if unit in UNITS else float(unit or 0)
    except ValueError:
        metres = -1.0
    if not 0 <= metres < 1000 or (unit and not metres):
        raise UserError(f"--unit is '{unit}': use {', '.join(UNITS)} or a number of metres.")
    return metres


def parse_rates(fps: str) -> list[tuple[str, float]]:
    """Parses "60" or "60_*=60,61_*=60" as (pattern of file names, frames per second)."""
    rates = []
    for part in (part for part in fps.split(",") if part.strip()):
        pattern, _, rate = part.strip().rpartition("=")
        try:
            value = float(rate)
        except ValueError:
            value = 0.0
        if not FPS_RANGE[0] <= value <= FPS_RANGE[1]:
            raise UserError(
                f"--fps has '{part}': write a rate from {FPS_RANGE[0]:g} to {FPS_RANGE[1]:g}, or "
                f"PATTERN=RATE."
            )
        rates.append((pattern or "*", value))
    return rates


def rates_of(paths: list[str], rates: list[tuple[str, float]]) -> list[float]:
    """Returns the user's rate for each file, by the first pattern that fits; 0 for none.

    Raises:
      UserError: a pattern decides nothing, because it fits no file or others come first.
    """
    names = [os.path.splitext(os.path.basename(path))[0] for path in paths]
    deciding = [
        next(
            (
                index
                for index, (pattern, _) in enumerate(rates)
                if fnmatch.fnmatchcase(name, pattern)
            ),
            -1,
        )
        for name in names
    ]
    for index, (pattern, rate) in enumerate(rates):
        if index not in deciding:
            raise UserError(
                f"--fps has '{pattern}={rate:g}', which decides no file's rate: correct it, or "
                f"move it to the front."
            )
    return [rates[index][1] if index >= 0 else 0.0 for index in deciding]


def name_of(source: str, path: str, skeleton: str, subject: str, action: str) -> tuple[str, str]:
    """Returns a file's subject and action; patterns are those in `convert`.

    Raises:
      UserError: a pattern is malformed, or does not fit the file.
    """
    path = os.path.relpath(path, source).replace(os.sep, "/")
    folder, _, name = path.rpartition("/")
    if subject:
        who = _group("--subject", subject, path)
    elif skeleton:
        who = os.path.splitext(os.path.basename(skeleton))[0]
    else:
        who = folder.rpartition("/")[2] or os.path.splitext(name)[0].split("_")[0]
    return who, _group("--action", action, path) if action else who


def _group(option: str, pattern: str, path: str) -> str:
    """Returns a pattern's first group in a path."""
    try:
        match = re.search(pattern, path)
        if match is not None and match[1]:
            return match[1]
    except (re.error, IndexError) as error:
        raise UserError(
            f"{option} '{pattern}' is not a pattern with a group ({error}): write one such as "
            f"'_([a-z]+)_'."
        ) from error
    raise UserError(
        f"{option} '{pattern}' does not fit '{path}': write a pattern whose first group is found "
        f"in every path."
    )


def choose_test_subjects(
    found: list[str], named: tuple[str, ...] | None, seed: int
) -> tuple[str, ...]:
    """Returns the named test subjects, or draws a fifth of the subjects.

    Raises:
      UserError: a subject is unknown, or nobody is left for training.
    """
    if named is not None:
        unknown = [name for name in named if name not in found]
        if unknown:
            raise UserError(
                f"Test subject '{unknown[0]}' is not there (found: {', '.join(found)}): correct "
                f"--test-subjects."
            )
        test = tuple(named)
    else:
        drawn = synthetic.generator(seed, "test subjects").permutation(found)
        test = tuple(sorted(map(str, drawn[: max(1, round(TEST_SHARE * len(found)))])))
    if not test:
        raise UserError(f"--test-subjects names nobody: name some of {', '.join(found)}.")
    if set(test) == set(found):
        raise UserError(
            f"All subjects ({', '.join(found)}) are for the test, and nobody is left to train on: "
            "give other --test-subjects, or say with --subject what a subject is."
        )
    return test
