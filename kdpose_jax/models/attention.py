"""A pre-norm transformer block with an explicit softmax, initialised as in PyTorch."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kdpose_jax.models.layers import DropPath, Linear


class SelfAttention(nn.Module):
    """Multi-head self-attention that also returns its probabilities.

    Compilation removes the probabilities if the caller ignores them.

    Attributes:
      heads: number A of heads; divides C.
      dtype: compute type; the softmax is computed in float32 or wider.
    """

    heads: int
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "N S C"]
    ) -> tuple[Float[Array, "N S C"], Float[Array, "N A S S"]]:
        count, length, width = tokens.shape
        depth = width // self.heads
        qkv = Linear(3 * width, dtype=self.dtype, name="qkv")(tokens)
        # [N, S, 3C] -> [N, S, 3, A, C/A] -> three of [N, A, S, C/A]
        qkv = qkv.reshape(count, length, 3, self.heads, depth)
        query, key, value = (qkv[:, :, part].swapaxes(1, 2) for part in range(3))
        logits = (query @ key.swapaxes(2, 3)) * depth**-0.5  # [N, A, S query, S key]
        logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        probabilities = jax.nn.softmax(logits, axis=-1)
        mixed = probabilities.astype(value.dtype) @ value  # [N, A, S, C/A]
        mixed = mixed.swapaxes(1, 2).reshape(count, length, width)
        return Linear(width, dtype=self.dtype, name="out")(mixed), probabilities


class TransformerBlock(nn.Module):
    """`x + DropPath(attention(LN(x)))`, then `x + DropPath(MLP(LN(x)))`.

    The MLP has the exact (erf) GELU.

    Attributes:
      heads: number A of attention heads.
      mlp_ratio: hidden width of the MLP over C.
      drop_path: probability of dropping each of the two branches.
      dtype: compute type.
    """

    heads: int
    mlp_ratio: float
    drop_path: float
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self, tokens: Float[Array, "N S C"], deterministic: bool
    ) -> tuple[Float[Array, "N S C"], Float[Array, "N A S S"]]:
        width = tokens.shape[-1]
        normed = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm_attention")(tokens)
        mixed, probabilities = SelfAttention(self.heads, self.dtype, name="attention")(normed)
        tokens = tokens + DropPath(self.drop_path)(mixed, deterministic)
        hidden = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype, name="norm_mlp")(tokens)
        hidden = Linear(round(width * self.mlp_ratio), dtype=self.dtype, name="mlp_hidden")(hidden)
        hidden = nn.gelu(hidden, approximate=False)
        hidden = Linear(width, dtype=self.dtype, name="mlp_out")(hidden)
        return tokens + DropPath(self.drop_path)(hidden, deterministic), probabilities
