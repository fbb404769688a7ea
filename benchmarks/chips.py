"""What the chips can do at most, from their makers' pages."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip.

    Attributes:
      flops: products and sums a second, of bfloat16 values with float32 sums. TPUs compute float32
        products in the same way by default.
      bandwidth: bytes a second between the chip and its memory (HBM).
      memory: bytes of that memory.
    """

    flops: float
    bandwidth: float
    memory: float

    def roofline(self, flops: float, moved: float) -> float:
        """Computes the least seconds in which a program can end."""
        return max(flops / self.flops, moved / self.bandwidth)


GENERATIONS = {
    # https://docs.cloud.google.com/tpu/docs/v5e
    "v5e": Chip(flops=197e12, bandwidth=819e9, memory=16e9),
    # https://docs.cloud.google.com/tpu/docs/v6e
    "v6e": Chip(flops=918e12, bandwidth=1638e9, memory=32e9),
}
# By the name that JAX gives the device. Another form of a GPU has another name and another peak.
GPUS = {
    # https://www.nvidia.com/en-us/data-center/h200/, the column of H200 SXM. It gives 1,979 TFLOP/s
    # "with sparsity", which is twice the rate of products of dense matrices.
    "NVIDIA H200": Chip(flops=989e12, bandwidth=4.8e12, memory=141e9),
}
