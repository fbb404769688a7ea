"""What is trained beside the student and thrown away with the teacher: projections to the teacher's width."""

import flax.linen as nn
from jaxtyping import Array, Float

from kdpose_jax.models.layers import Linear


class EmbeddingProjectors(nn.Module):
    """phi_m: one linear map C_student -> C_teacher per distilled layer.

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
