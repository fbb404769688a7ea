"""Describes networks without computing anything."""

import functools

import flax.linen as nn
import jax

from kdpose_jax.models import initial


def shapes_of(network: nn.Module, *inputs, **options):
    """Returns the shapes and types of a network's variables: {"params": tree, ...}."""
    start = functools.partial(initial.variables, network, **options)
    return jax.eval_shape(start, jax.random.key(0), *inputs)


def abstract(tree):
    """Returns the shapes, types and shardings of arrays, into which a checkpoint is restored."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)
