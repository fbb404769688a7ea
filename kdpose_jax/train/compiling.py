"""Compiles functions with the options that suit a platform."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh

# Platform -> options of XLA. Each was measured by itself (docs/results/speed.md#xlas-options).
OPTIONS: dict[str, dict[str, Any]] = {
    "cpu": {
        # By default a product of many small matrices runs on one core, with what follows it in
        # another pass. With DOT in place of INDIVIDUAL_DOT both are one pass, on all cores.
        "xla_cpu_experimental_ynn_fusion_type": ",".join(
            f"LIBRARY_FUSION_TYPE_{kind}" for kind in ("DOT", "REDUCE", "INDIVIDUAL_CONVOLUTION")
        )
    }
}


def jit(function: Callable[..., Any], mesh: Mesh, **options: Any) -> Any:
    """Compiles a function for the devices of a mesh, as `jax.jit` does with the same `options`.

    It is for the programs that are run many times: steps and predictions. While the function is
    traced the mesh is in jax's context, where kernels find it (models/attending_tpu.py).
    """

    @functools.wraps(function)
    def within(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            return function(*arguments)

    platform = mesh.devices.flat[0].platform
    return jax.jit(within, compiler_options=OPTIONS.get(platform), **options)
