"""SAPE, the scale-adaptive projector ensemble: trained beside the student, thrown away with the teacher.

CDKD (arXiv 2405.11448) and its released code; docs/methods/cdkd.md#projector-ensemble. The
factorised kinds of projector are our design (docs/methods/cdkd.md#projector-kinds).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kdpose_jax.models.layers import BatchNorm, Linear

KINDS = ("dense", "lowrank", "per_joint", "kron")
ACTIVATIONS = {"relu": nn.relu, "none": lambda values: values}
SCALES = (3, 5, 7)
ATTENTION_WIDTH = 32
NOISE = 0.1  # of the factors of `kron`, relative to their fan-in: it only has to tell the projectors apart


class MultiScaleAttention(nn.Module):
    """How much each branch counts for each joint: a selective-kernel attention over 3x3, 5x5 and 7x7 views of the maps.

    Attributes:
      branches: the projectors and their mean.
    """

    branches: int

    @nn.compact
    def __call__(self, maps: Float[Array, "B J H W"], train: bool) -> Float[Array, "B N J"]:
        joints = maps.shape[1]
        images = maps.transpose(0, 2, 3, 1)  # [B, J, h, w] -> [B, h, w, J]
        views = 0.0
        for scale in SCALES:
            bound = (joints * scale**2) ** -0.5  # PyTorch's default for convolutions
            view = nn.Conv(
                joints,
                (scale, scale),
                padding=scale // 2,
                kernel_init=_uniform(bound),
                bias_init=_uniform(bound),
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
    """N linear maps from the student's maps to the teacher's size, each followed by an activation, merged by weights.

    The maps of all kinds are brought to one form, a kernel per joint of the teacher, stacked joint first:
    `[J, N, inputs, area]`. So a chunk is one slice of the leading axis, and devices can share the last one, `area`:
    the loss needs two sums over it. A joint's outputs depend on no other joint's kernel.

    Attributes:
      kind: `dense`: any map of all joints (the released code); approximations of it: `lowrank`, a product through `rank`
        values; `per_joint`, each joint from its own map; `kron`, joint mixing (x) one spatial map shared by the joints.
      ensemble: number of projectors N.
      size: side of the teacher's maps.
      rank: of `lowrank`.
      activation: after each projector, a key of `ACTIVATIONS`.
      chunked: one joint at a time, recomputed in the backward pass, so that `[B, N, J, area]` never exists. The same
        values and gradients, up to the order of summation.
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
          maps: of the student.
          weights: of each projector for each joint.

        Returns:
          The merged maps, in the teacher's size.
        """
        batch, joints = maps.shape[:2]
        hidden, kernel, bias = getattr(self, f"_{self.kind}")(maps.reshape(batch, joints, -1))
        # What every joint has its own of; the rest is shared by all.
        axes = (0 if hidden.ndim == 4 else None, 0 if kernel.ndim == 4 else None, 0, 0)
        weights = weights.transpose(2, 0, 1)  # [J, B, N]
        activate = ACTIVATIONS[self.activation]

        def project(hidden: Array, kernel: Array, bias: Array, weights: Array) -> Array:
            """One joint: [N or 1, B, I], [N, I, A], [N, A], [B, N] -> [B, A]."""
            hidden = jnp.broadcast_to(hidden, (self.ensemble, *hidden.shape[1:]))
            projected = activate(jnp.einsum("nbi,nia->nba", hidden, kernel) + bias[:, None])
            return jnp.einsum("nba,bn->ba", projected, weights)

        every = (hidden, kernel, bias, weights)
        if self.chunked:
            own = tuple(value for value, axis in zip(every, axes, strict=True) if axis == 0)

            def one_joint(_: None, own: tuple[Array, ...]) -> tuple[None, Array]:
                rest = iter(own)
                return None, project(
                    *(
                        next(rest) if axis == 0 else value
                        for value, axis in zip(every, axes, strict=True)
                    )
                )

            _, merged = jax.lax.scan(jax.checkpoint(one_joint), None, own)
        else:
            merged = jax.vmap(project, in_axes=axes)(*every)
        return merged.transpose(1, 0, 2).reshape(batch, joints, self.size, self.size)

    def _dense(self, maps: Array) -> tuple[Array, Array, Array]:
        """All joints together: hidden [1, B, J h w]."""
        batch, joints, cells = maps.shape
        inputs, area = joints * cells, self.size**2
        bound = (6 / (inputs + joints * area)) ** 0.5  # Xavier, of the whole matrix
        kernel = self.param("kernel", _uniform(bound), (joints, self.ensemble, inputs, area))
        bias = self.param("bias", _uniform(inputs**-0.5), (joints, self.ensemble, area))
        return maps.reshape(1, batch, inputs), kernel, bias

    def _lowrank(self, maps: Array) -> tuple[Array, Array, Array]:
        """Through `rank` values: hidden [N, B, rank]."""
        batch, joints, cells = maps.shape
        inputs, area = joints * cells, self.size**2
        down = self.param("down", _uniform((3 / inputs) ** 0.5), (self.ensemble, inputs, self.rank))
        bound = (6 / (self.rank + joints * area)) ** 0.5
        kernel = self.param("up", _uniform(bound), (joints, self.ensemble, self.rank, area))
        bias = self.param("bias", _uniform(inputs**-0.5), (joints, self.ensemble, area))
        return jnp.einsum("bi,nir->nbr", maps.reshape(batch, inputs), down), kernel, bias

    def _per_joint(self, maps: Array) -> tuple[Array, Array, Array]:
        """Each joint by itself: hidden [J, 1, B, h w]."""
        _, joints, cells = maps.shape
        area = self.size**2
        bound = (6 / (cells + area)) ** 0.5
        kernel = self.param("kernel", _uniform(bound), (joints, self.ensemble, cells, area))
        bias = self.param("bias", _uniform(cells**-0.5), (joints, self.ensemble, area))
        return maps.transpose(1, 0, 2)[:, None], kernel, bias

    def _kron(self, maps: Array) -> tuple[Array, Array, Array]:
        """Mixed joints, then one spatial map: hidden [J, N, B, h w]. It starts as bilinear upsampling of every joint."""
        _, joints, cells = maps.shape
        area = self.size**2
        mixing = self.param("mixing", _around(np.eye(joints)), (self.ensemble, joints, joints))
        start = upsampling(math.isqrt(cells), self.size)  # the maps are square
        kernel = self.param("kernel", _around(start), (self.ensemble, cells, area))
        bias = self.param("bias", nn.initializers.zeros, (joints, self.ensemble, area))
        return jnp.einsum("bkc,njk->jnbc", maps, mixing), kernel, bias


class ScaleAdaptiveProjection(nn.Module):
    """SAPE: student maps -> maps to compare with the teacher's.

    Equations: docs/methods/cdkd.md#projector-ensemble.

    The released code merges N projections and, as a further branch, their mean. The mean adds nothing: it is the same as N
    branches of weights a_i + a_{N+1} / N.

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
    """Bilinear interpolation of a `side` x `side` map at `size` x `size` places, as a matrix.

    Cell t of the larger map stands at t side / size of the smaller one, without a half-cell term, as coordinates of the two
    resolutions do (docs/methods/pose2d.md#two-resolutions); the last row and column are held.
    """
    place = np.minimum(np.arange(size) * side / size, side - 1)
    line = np.maximum(0.0, 1 - np.abs(place[None] - np.arange(side)[:, None]))  # [side, size]
    return np.einsum("ia,jb->ijab", line, line).reshape(side**2, size**2)


def _uniform(bound: float) -> nn.initializers.Initializer:
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )


def _around(centre: np.ndarray) -> nn.initializers.Initializer:
    """A matrix plus noise that differs between the stacked projectors and adds `NOISE` of the input's size to an output."""

    def initial(key: Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> Array:
        noise = NOISE * centre.shape[0] ** -0.5 * jax.random.normal(key, shape, dtype)
        return noise + jnp.asarray(centre, dtype)[None]

    return initial
