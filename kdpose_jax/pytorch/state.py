"""Finds a network in a file of weights, at any depth, under names with any prefix."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from kdpose_jax.errors import UserError

# MMPose keeps a network in two parts, each under a prefix of its own.
_BACKBONE, _HEADS = "backbone.", ("head.", "keypoint_head.")
_OPTIMIZER = "optim"
_SHOWN = 4


class Candidate(NamedTuple):
    """Describes one network that a file may hold.

    Attributes:
      where: keys that lead to its dictionary, joined by dots; empty at the top.
      prefix: text in front of the names of its tensors.
      state: name without the prefix -> tensor.
      left_out: the other names in the dictionary.
    """

    where: str
    prefix: str
    state: dict[str, np.ndarray]
    left_out: tuple[str, ...]

    @property
    def described(self) -> str:
        """Names the network for an error."""
        parts = [part for part in (self.where, self.prefix and f"{self.prefix}*") if part]
        return f"'{' '.join(parts) or 'the top'}' ({len(self.state)} tensors)"


def convert_state(
    checkpoint: Any,
    convert: Callable[[Mapping[str, np.ndarray]], Any],
    *,
    anchor: str,
    network: str,
) -> tuple[Any, tuple[str, ...]]:
    """Finds the one network of a kind in a file's content, and converts it.

    Args:
      checkpoint: the file's content.
      convert: makes our trees from a state, or raises UserError if it belongs to another network.
      anchor: a tensor that every network of this kind has once; it is searched for.
      network: names the network ("a MixSTE network") in errors.

    Returns:
      The result from `convert`, and sentences that say what was left out or converted.

    Raises:
      UserError: there is no such network, or there are several that differ.
    """
    found = list(_candidates(checkpoint, anchor))
    if not found:
        raise UserError(_without(checkpoint, anchor, network))
    fitting, errors = [], []
    for candidate in found:
        try:
            fitting.append((candidate, convert(candidate.state)))
        except UserError as error:
            errors.append((candidate, error))
    if not fitting:
        raise UserError(_unfit(errors))
    chosen, converted = fitting[0]
    others = [
        candidate for candidate, _ in fitting[1:] if not _equal(candidate.state, chosen.state)
    ]
    if others:
        listed = ", ".join(candidate.described for candidate in (chosen, *others))
        raise UserError(
            f"it holds several different networks that fit, {listed}: save the dictionary of the "
            "one that you want alone, with torch.save(torch.load(FILE, map_location='cpu', "
            "weights_only=True)[...], NEW_FILE)."
        )
    return converted, (
        *_left_out(chosen, [candidate for candidate, _ in errors], network),
        *_converted(chosen.state),
    )


def _dictionaries(checkpoint: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each dictionary of named tensors with the keys to it, but not optimisers'."""
    waiting: list[tuple[str, Any]] = [("", checkpoint)]
    seen: set[int] = set()  # a pickle may refer to one object again and again
    while waiting:
        where, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if (
            isinstance(value, dict)
            and "param_groups" not in value
            and all(isinstance(key, str) for key in value)
        ):
            if any(isinstance(entry, np.ndarray) for entry in value.values()):
                yield where, value
            inner = [(key, entry) for key, entry in value.items() if _OPTIMIZER not in key.lower()]
        elif isinstance(value, list | tuple):
            inner = [(str(index), entry) for index, entry in enumerate(value)]
        else:
            continue
        inner = [(f"{where}.{key}" if where else key, entry) for key, entry in inner]
        waiting += [pair for pair in reversed(inner) if isinstance(pair[1], dict | list | tuple)]


def _candidates(checkpoint: Any, anchor: str) -> Iterator[Candidate]:
    """Yields every network whose anchor is there."""
    for where, entries in _dictionaries(checkpoint):
        for name in entries:
            if name == anchor or name.endswith(f".{anchor}"):
                yield _candidate(where, name.removesuffix(anchor), entries)


def _candidate(where: str, prefix: str, entries: dict[str, Any]) -> Candidate:
    """Returns the network under one prefix in a dictionary."""
    prefixes = [prefix]
    if prefix.endswith(_BACKBONE):
        prefixes += [prefix.removesuffix(_BACKBONE) + head for head in _HEADS]
    state, left_out = {}, []
    for name, value in entries.items():
        own = next((one for one in prefixes if name.startswith(one)), None)
        if own is None or not isinstance(value, np.ndarray):
            left_out.append(name)
        else:
            state[name.removeprefix(own)] = value
    return Candidate(where, prefix, state, tuple(left_out))


def _without(checkpoint: Any, anchor: str, network: str) -> str:
    """Writes the error for a file without such a network, and says what is there."""
    found = list(_dictionaries(checkpoint))
    if not found:
        held = f"a {type(checkpoint).__name__}"
        if isinstance(checkpoint, dict):
            held = (
                f"a dictionary of {_listed([str(key) for key in checkpoint])}"
                if checkpoint
                else "an empty dictionary"
            )
        return (
            "it has no network state, which is a dictionary of tensors by their names, but "
            f"{held}: save the network's state_dict()."
        )
    parts = []
    for where, entries in found[:_SHOWN]:
        names = [name for name, value in entries.items() if isinstance(value, np.ndarray)]
        parts.append(f"{len(names)} tensors{f' in {where!r}' if where else ''} ({_listed(names)})")
    more = f" and {len(found) - _SHOWN} more dictionaries" if len(found) > _SHOWN else ""
    return (
        f"it has no tensor '{anchor}', with or without a prefix, but {', '.join(parts)}{more}; "
        f"name the checkpoint of {network}."
    )


def _unfit(errors: list[tuple[Candidate, UserError]]) -> str:
    """Writes the error for networks that do not fit."""
    candidate, error = errors[0]
    if len(errors) == 1:
        under = f" (under '{candidate.prefix}')" if candidate.prefix else ""
        return f"{error}".rstrip(".") + f"{under}."
    listed = ", ".join(candidate.described for candidate, _ in errors)
    return f"of {listed} none fits; the first: {error}"


def _left_out(chosen: Candidate, others: list[Candidate], network: str) -> Iterator[str]:
    """Yields sentences that say what stands beside the weights."""
    if chosen.left_out:
        where = f" outside '{chosen.prefix}'" if chosen.prefix else ", which are not tensors"
        listed = _listed(list(chosen.left_out))
        yield f"{len(chosen.left_out)} entries{where} are left out ({listed})"
    if others:
        listed = ", ".join(candidate.described for candidate in others)
        yield f"{listed} left out, not being {network} of its sizes"


def _converted(state: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Yields a sentence about tensors in another precision."""
    kinds = [array.dtype.name for array in state.values() if array.dtype.kind not in "iub"]
    for kind in sorted(set(kinds) - {"float32"}):
        share = f"{kinds.count(kind)} of its {len(kinds)} tensors"
        yield f"{share} are {kind}, and are computed with in float32"


def _equal(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> bool:
    return first.keys() == second.keys() and all(
        np.array_equal(first[name], second[name]) for name in first
    )


def _listed(names: list[str]) -> str:
    """Quotes the first few names."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(f"'{name[:60]}'" for name in names[:_SHOWN]) + more
