"""Draws the initial values of all parameters of a network at once.

XLA compiles each draw of random numbers by itself, which takes up to two seconds on a CPU. A
network has hundreds of random parameters. Here a parameter only says how it is distributed. When
the network is there, one draw is cut into pieces for all of them.

Every random parameter of this package names `uniform` or `normal` of this file as its initialiser,
and every network is initialised by `variables`.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array

# Larger parameters are drawn by themselves, so that devices can share the work and the memory.
_SHARED_DRAW = 2**24


@flax.struct.dataclass
class Undrawn(nn.meta.AxisMetadata[Any]):
    """Stands for a parameter until its values are drawn.

    Attributes:
      value: NaN, in the parameter's shape. A network that is initialised without `variables` shows
        it.
      centre: values to which the draw is added; None for zeros.
      draw: the distribution, `uniform` in [-1, 1) or `normal` with deviation 1.
      scale: factor of the draw.
    """

    value: Any  # an array, or the description of one
    centre: Any
    draw: str = flax.struct.field(pytree_node=False)
    scale: float = flax.struct.field(pytree_node=False)

    def unbox(self) -> Any:
        """Returns the parameter for the forward pass that Flax makes to find all shapes."""
        return self.value

    def replace_boxed(self, val: Any) -> Any:
        """Returns the same distribution with another value."""
        return dataclasses.replace(self, value=val)

    def add_axis(self, index: int, params: dict[Any, Any]) -> Any:
        """Raises NotImplementedError: no network here repeats a layer by `nn.scan` or `nn.vmap`."""
        raise NotImplementedError("initial values of repeated layers")

    remove_axis = add_axis


def uniform(bound: float) -> nn.initializers.Initializer:
    """Makes an initialiser: uniform in [-bound, bound)."""
    return _initializer("uniform", bound, None)


def normal(deviation: float, centre: np.ndarray | None = None) -> nn.initializers.Initializer:
    """Makes an initialiser: normal around `centre`, which is zero if it is None.

    Args:
      deviation: the standard deviation.
      centre: array that broadcasts to the parameter's shape.
    """
    return _initializer("normal", deviation, centre)


def _initializer(draw: str, scale: float, centre: np.ndarray | None) -> Any:
    def initial(_: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Undrawn:
        around = None if centre is None else jnp.broadcast_to(jnp.asarray(centre, dtype), shape)
        return Undrawn(jnp.full(shape, jnp.nan, dtype), around, draw, float(scale))

    return initial


def variables(network: nn.Module, key: Array, *inputs: Any, **options: Any) -> dict[str, Any]:
    """Initialises a network.

    Args:
      network: the network.
      key: the key that its values are drawn from.
      *inputs: what the network is called with. Arrays have a batch axis in front, of which only
        the first example is used: shapes do not depend on the others.
      **options: hashable values that it is called with by name.

    Returns:
      The variables by collection, `params` and others, as `network.init` would return them.
    """
    first = jax.tree.map(lambda array: array[:1], inputs)
    described = _init(network, tuple(sorted(options.items())))(key, *first)
    leaves, tree = jax.tree.flatten(described, is_leaf=lambda leaf: isinstance(leaf, Undrawn))
    drawn = list(leaves)
    for draw, draw_key in zip(_DRAWS, jax.random.split(key, len(_DRAWS)), strict=True):
        chosen = {
            place: leaf
            for place, leaf in enumerate(leaves)
            if isinstance(leaf, Undrawn) and leaf.draw == draw
        }
        shapes = {place: leaf.value.shape for place, leaf in chosen.items()}
        for place, values in _cut(draw, draw_key, shapes).items():
            leaf = chosen[place]
            scaled = leaf.scale * values.astype(leaf.value.dtype)
            drawn[place] = scaled if leaf.centre is None else leaf.centre + scaled
    return jax.tree.unflatten(tree, drawn)


def _uniform_draw(key: Array, shape: tuple[int, ...]) -> Array:
    return jax.random.uniform(key, shape, jnp.float32, -1.0, 1.0)


_DRAWS: dict[str, Callable[[Array, tuple[int, ...]], Array]] = {
    "uniform": _uniform_draw,
    "normal": jax.random.normal,
}


def _cut(draw: str, key: Array, shapes: dict[int, tuple[int, ...]]) -> dict[int, Array]:
    """Draws arrays of these shapes: the same numbers -> an array."""
    sizes = {number: math.prod(shape) for number, shape in shapes.items()}
    found = {
        number: _DRAWS[draw](jax.random.fold_in(key, number), shape)
        for number, shape in shapes.items()
        if sizes[number] > _SHARED_DRAW
    }
    small = [number for number in shapes if number not in found]
    together = _DRAWS[draw](key, (sum(sizes[number] for number in small),))
    start = 0
    for number in small:
        found[number] = together[start : start + sizes[number]].reshape(shapes[number])
        start += sizes[number]
    return found


@functools.lru_cache(maxsize=64)
def _init(network: nn.Module, options: tuple[tuple[str, Any], ...]) -> Callable[..., Any]:
    """Returns the compiled `init` of a network. JAX traces it once for the same shapes."""
    return jax.jit(lambda key, *inputs: network.init(key, *inputs, **dict(options)))
