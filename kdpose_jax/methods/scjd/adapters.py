"""Projections to the teacher's width, which are trained beside the student and discarded."""

import flax.linen as nn
from jaxtyping import Array, Float

from kdpose_jax.models.layers import Linear


class EmbeddingProjectors(nn.Module):
    """Applies phi_m, one linear map from C_student to C_teacher channels per distilled layer.

    Attributes:
      width: channels of the teacher.
      layers: the distilled student layers, 0-based.
    """

    width: int
    layers: tuple[int, ...]

    @nn.compact
    def __call__(
        self, embeddings: dict[int, Float[Array, "B K J C"]]
    ) -> dict[int, Float[Array, "B K J D"]]:
        return {
            layer: Linear(self.width, name=f"layer_{layer}")(embeddings[layer])
            for layer in self.layers
        }
