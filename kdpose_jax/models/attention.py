"""A pre-norm transformer block with an explicit softmax, initialised as in PyTorch."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models.attending import attend
from kdpose_jax.models.layers import Drops, LayerNorm, Linear, dropped, gelu


class SelfAttention(nn.Module):
    """Multi-head self-attention that also returns what it attends by.

    `attending.probabilities` makes probabilities of that, for the frames in which they are wanted.

    Attributes:
      heads: number A of heads; divides C.
      axis: -2 if the S tokens of each row attend to each other, -3 if the T tokens of each column
        do.
      dtype: compute type; the softmax is computed in float32 or wider.
    """

    heads: int
    axis: int = -2
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "B T S C"]
    ) -> tuple[Float[Array, "B T S C"], Float[Array, "B T S QKV"]]:
        width = tokens.shape[-1]
        qkv = Linear(3 * width, dtype=self.dtype, name="qkv")(tokens)
        mixed = Linear(width, dtype=self.dtype, name="out")(attend(qkv, self.heads, self.axis))
        return mixed, qkv


class TransformerBlock(nn.Module):
    """`x + attention(LN(x))`, then `x + MLP(LN(x))`, with stochastic depth of both branches.

    The MLP has the exact (erf) GELU.

    Attributes:
      heads: number A of attention heads.
      mlp_ratio: hidden width of the MLP over C.
      axis: as in `SelfAttention`.
      dtype: compute type.
    """

    heads: int
    mlp_ratio: float
    axis: int = -2
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "B T S C"], drops: Drops = None
    ) -> tuple[Float[Array, "B T S C"], Float[Array, "B T S QKV"]]:
        width = tokens.shape[-1]
        normed = LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm_attention")(tokens)
        attention = SelfAttention(self.heads, self.axis, self.dtype, name="attention")
        mixed, qkv = attention(normed)
        tokens = tokens + dropped(mixed, drops, 0)
        hidden = LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm_mlp")(tokens)
        hidden = Linear(round(width * self.mlp_ratio), dtype=self.dtype, name="mlp_hidden")(hidden)
        hidden = Linear(width, dtype=self.dtype, name="mlp_out")(gelu(hidden))
        return tokens + dropped(hidden, drops, 1), qkv
