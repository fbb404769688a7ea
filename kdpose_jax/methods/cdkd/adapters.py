"""SAPE, the scale-adaptive projector ensemble.

It is trained beside the student and discarded with the teacher. Source: CDKD (arXiv 2405.11448) and
its released code; docs/methods/cdkd.md#projector-ensemble. The factorised kinds of projector are
our design (docs/methods/cdkd.md#projector-kinds).
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.models import initial
from kdpose_jax.models.layers import BatchNorm, Linear

KINDS = ("dense", "lowrank", "per_joint", "kron")
ACTIVATIONS = {"relu": nn.relu, "none": lambda values: values}
SCALES = (3, 5, 7)
ATTENTION_WIDTH = 32
# Noise on the factors of `kron`, relative to their fan-in. It only makes the projectors differ.
NOISE = 0.1


class MultiScaleAttention(nn.Module):
    """Weighs the branches for each joint, by attention over 3x3, 5x5 and 7x7 views of the maps.

    Attributes:
      branches: number N of branches: the projectors and their mean.
    """

    branches: int

    @nn.compact
    def __call__(self, maps: Float[Array, "B J H W"], train: bool) -> Float[Array, "B N J"]:
        joints = maps.shape[1]
        images = maps.transpose(0, 2, 3, 1)  # [B, J, h, w] -> [B, h, w, J]
        views: Any = 0.0  # without a type of its own: the sum has the type of its terms
        for scale in SCALES:
            bound = (joints * scale**2) ** -0.5  # PyTorch's default for convolutions
            view = nn.Conv(
                joints,
                (scale, scale),
                padding=scale // 2,
                kernel_init=initial.uniform(bound),
                bias_init=initial.uniform(bound),
                name=f"conv_{scale}",
            )(images)
            views = views + nn.relu(BatchNorm(name=f"norm_{scale}")(view, train))
        pooled = views.mean((1, 2))  # [B, J]
        hidden = Linear(ATTENTION_WIDTH, name="squeeze")(pooled)
        scores = [
            Linear(joints, name=f"branch_{branch}")(hidden) for branch in range(self.branches)
        ]
        return nn.softmax(jnp.stack(scores, axis=1), axis=1)


class ProjectorEnsemble(nn.Module):
    """Projects the student's maps to the teacher's size by N linear maps, and merges them.

    All kinds have one form: a kernel for each of the teacher's joints, stacked joint first,
    `[J, N, inputs, area]`. A chunk is then one slice of the first axis. Devices can share the last
    axis, `area`, over which the loss takes two sums. The output for a joint depends only on that
    joint's kernel.

    Attributes:
      kind: `dense` is any linear map of all joints, as released. The other kinds approximate it:
        `lowrank` through `rank` values, `per_joint` from the joint's map alone, `kron` by joint
        mixing (x) one spatial map that the joints share.
      ensemble: number N of projectors.
      size: side S of the teacher's maps.
      rank: number of values between the two factors of `lowrank`.
      activation: what follows each projector, a key of `ACTIVATIONS`.
      chunked: whether joints are computed one at a time and again in the backward pass, so that
        `[B, N, J, area]` is never in memory. Values and gradients agree up to the order of
        summation.
    """

    kind: str
    ensemble: int
    size: int
    rank: int
    activation: str
    chunked: bool

    @nn.compact
    def __call__(
        self, maps: Float[Array, "B J H W"], weights: Float[Array, "B N J"]
    ) -> Float[Array, "B J S S"]:
        """Projects and merges.

        Args:
          maps: the student's maps.
          weights: weight of each projector for each joint.

        Returns:
          The merged maps, in the teacher's size.
        """
        batch, joints = maps.shape[:2]
        hidden, kernel, bias = getattr(self, f"_{self.kind}")(maps.reshape(batch, joints, -1))
        own = kernel.ndim == 4  # each joint has its own kernel
        multiply = products if own else multiplied
        if own and not self.chunked:
            # Otherwise the kernel's gradient has its axes J and N the other way round.
            hidden = jnp.broadcast_to(hidden, (joints, self.ensemble, *hidden.shape[-2:]))
        # The mapped axis of each array; None for arrays that all joints share.
        axes = (0 if hidden.ndim == 4 else None, 0 if own else None, 0, 0)
        weights = weights.transpose(2, 0, 1)  # [J, B, N]
        activate = ACTIVATIONS[self.activation]

        def project(hidden: Array, kernel: Array, bias: Array, weights: Array) -> Array:
            """Projects for one joint: [N or 1, B, I], [N, I, A], [N, A], [B, N] -> [B, A]."""
            hidden = jnp.broadcast_to(hidden, (self.ensemble, *hidden.shape[1:]))
            projected = activate(multiply(hidden, kernel) + bias[:, None])
            return jnp.einsum("nba,bn->ba", projected, weights)

        arrays = (hidden, kernel, bias, weights)
        if self.chunked:
            stacked = tuple(array for array, axis in zip(arrays, axes, strict=True) if axis == 0)

            def one_joint(_: None, slices: tuple[Array, ...]) -> tuple[None, Array]:
                left = iter(slices)
                operands = (
                    next(left) if axis == 0 else array
                    for array, axis in zip(arrays, axes, strict=True)
                )
                return None, project(*operands)

            _, merged = jax.lax.scan(jax.checkpoint(one_joint), None, stacked)
        else:
            merged = jax.vmap(project, in_axes=axes)(*arrays)
        return merged.transpose(1, 0, 2).reshape(batch, joints, self.size, self.size)

    def _dense(self, maps: Array) -> tuple[Array, Array, Array]:
        """Maps all joints together: hidden [1, B, J h w]."""
        batch, joints, cells = maps.shape
        inputs, area = joints * cells, self.size**2
        bound = (6 / (inputs + joints * area)) ** 0.5  # Xavier's, for the whole matrix
        kernel = self.param("kernel", initial.uniform(bound), (joints, self.ensemble, inputs, area))
        bias = self.param("bias", initial.uniform(inputs**-0.5), (joints, self.ensemble, area))
        return maps.reshape(1, batch, inputs), kernel, bias

    def _lowrank(self, maps: Array) -> tuple[Array, Array, Array]:
        """Maps through `rank` values: hidden [N, B, rank]."""
        batch, joints, cells = maps.shape
        inputs, area = joints * cells, self.size**2
        down = self.param(
            "down", initial.uniform((3 / inputs) ** 0.5), (self.ensemble, inputs, self.rank)
        )
        bound = (6 / (self.rank + joints * area)) ** 0.5
        kernel = self.param("up", initial.uniform(bound), (joints, self.ensemble, self.rank, area))
        bias = self.param("bias", initial.uniform(inputs**-0.5), (joints, self.ensemble, area))
        return jnp.einsum("bi,nir->nbr", maps.reshape(batch, inputs), down), kernel, bias

    def _per_joint(self, maps: Array) -> tuple[Array, Array, Array]:
        """Maps each joint by itself: hidden [J, 1, B, h w]."""
        _, joints, cells = maps.shape
        area = self.size**2
        bound = (6 / (cells + area)) ** 0.5
        kernel = self.param("kernel", initial.uniform(bound), (joints, self.ensemble, cells, area))
        bias = self.param("bias", initial.uniform(cells**-0.5), (joints, self.ensemble, area))
        return maps.transpose(1, 0, 2)[:, None], kernel, bias

    def _kron(self, maps: Array) -> tuple[Array, Array, Array]:
        """Mixes joints, then applies one spatial map: hidden [J, N, B, h w].

        It starts as bilinear upsampling of every joint.
        """
        _, joints, cells = maps.shape
        area = self.size**2
        mixing = self.param("mixing", _around(np.eye(joints)), (self.ensemble, joints, joints))
        start = upsampling(math.isqrt(cells), self.size)  # the maps are square
        kernel = self.param("kernel", _around(start), (self.ensemble, cells, area))
        bias = self.param("bias", nn.initializers.zeros, (joints, self.ensemble, area))
        return jnp.einsum("bkc,njk->jnbc", maps, mixing), kernel, bias


def multiplied(
    hidden: Float[Array, "N B I"], kernel: Float[Array, "N I A"]
) -> Float[Array, "N B A"]:
    """Multiplies N matrices by N matrices."""
    return jnp.einsum("nbi,nia->nba", hidden, kernel)


@jax.custom_vjp
def products(hidden: Float[Array, "N B I"], kernel: Float[Array, "N I A"]) -> Float[Array, "N B A"]:
    """Computes `multiplied`, and the kernel's gradient with the axes in the kernel's order.

    JAX's gradient has A before I. A TPU then brings a kernel of gigabytes, and both moments that
    the optimiser has of it, into that order and back in every step.
    """
    return multiplied(hidden, kernel)


def _forward(hidden: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return multiplied(hidden, kernel), (hidden, kernel)


def _backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    """Returns the gradients of hidden values and kernel."""
    hidden, kernel = kept
    of_hidden = jnp.einsum("nba,nia->nbi", gradient, kernel)
    return of_hidden, jnp.einsum("nbi,nba->nia", hidden, gradient)


products.defvjp(_forward, _backward)


class ScaleAdaptiveProjection(nn.Module):
    """Applies SAPE: the student's maps become maps that can be compared with the teacher's.

    Equations: docs/methods/cdkd.md#projector-ensemble. The released code merges N projections and,
    as a further branch, their mean. That is the same as N branches with weights a_i + a_{N+1} / N.

    Attributes:
      projectors: the ensemble.
    """

    projectors: ProjectorEnsemble

    @nn.compact
    def __call__(self, maps: Float[Array, "B J H W"], train: bool) -> Float[Array, "B J S S"]:
        count = self.projectors.ensemble
        shares = MultiScaleAttention(count + 1, name="attention")(maps, train)
        return self.projectors(maps, shares[:, :-1] + shares[:, -1:] / count)


def upsampling(side: int, size: int) -> Float[np.ndarray, "I A"]:
    """Builds the matrix that interpolates a `side` x `side` map bilinearly to `size` x `size`.

    Cell t of the larger map is at t side / size of the smaller map, without a half-cell term, like
    coordinates of the two resolutions (docs/methods/pose2d.md#two-resolutions). Beyond the last row
    and column, their values are repeated.
    """
    place = np.minimum(np.arange(size) * side / size, side - 1)
    line = np.maximum(0.0, 1 - np.abs(place[None] - np.arange(side)[:, None]))  # [side, size]
    return np.einsum("ia,jb->ijab", line, line).reshape(side**2, size**2)


def _around(centre: np.ndarray) -> nn.initializers.Initializer:
    """Initialises at `centre` plus noise, see `NOISE`, which differs between projectors."""
    return initial.normal(NOISE * centre.shape[0] ** -0.5, centre)
