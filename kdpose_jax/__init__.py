"""kdpose_jax: distillation of human-pose networks in JAX/Flax."""
