"""Makes up what networks are given: keypoints that move, and coarse pictures."""

import numpy as np

J = 17


def motion(frames, seed=0, videos=None):
    """Keypoints that move smoothly, screen units."""
    generator = np.random.default_rng(seed)
    shape = (frames, J, 2) if videos is None else (videos, frames, J, 2)
    steps = generator.normal(size=shape).cumsum(axis=-3) * 0.02
    return np.clip(steps, -1, 1).astype(np.float32)


def picture(height, width, seed=0):
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, size=(height // 8 + 2, width // 8 + 2, 3))
    return np.kron(coarse, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)
