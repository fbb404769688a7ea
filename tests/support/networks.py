"""Describes networks without computing anything."""

import functools

import flax.linen as nn
import jax

from kdpose_jax.models import initial


def shapes_of(network: nn.Module, *inputs, **options):
    """Returns the shapes and types of a network's variables: {"params": tree, ...}."""
    start = functools.partial(initial.variables, network, **options)
    return jax.eval_shape(start, jax.random.key(0), *inputs)
