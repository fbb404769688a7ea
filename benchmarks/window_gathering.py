"""Measures how fast windows are gathered, on generated arrays of Human3.6M's size.

  python -m benchmarks.window_gathering

The arrays have the size of the training set. Prints windows of 243 frames (2D and 3D) per second,
and the ratio to copying windows one by one with slices. Both run in this process, in turns, on one
thread.
"""

import time

import numpy as np

from kdpose_jax.data.windows import Windows, centred_starts

FRAMES, SEQUENCES, LENGTH, BATCH, ROUNDS = 2599, 600, 243, 16, 7


def main() -> None:
    """Builds the arrays and times both ways."""
    generator = np.random.default_rng(0)
    keypoints_2d = generator.standard_normal((FRAMES * SEQUENCES, 17, 2), np.float32)
    pose_3d = generator.standard_normal((FRAMES * SEQUENCES, 17, 3), np.float32)
    starts = centred_starts(FRAMES, LENGTH, LENGTH)
    windows = Windows(
        offset=np.repeat(np.arange(SEQUENCES) * FRAMES, len(starts)),
        frames=np.full(SEQUENCES * len(starts), FRAMES),
        start=np.tile(starts, SEQUENCES),
        length=LENGTH,
    )

    def gathered(chosen: np.ndarray) -> list[np.ndarray]:
        rows = windows.rows(chosen)
        return [np.take(array, rows, axis=0) for array in (keypoints_2d, pose_3d)]

    def sliced(chosen: np.ndarray) -> list[np.ndarray]:
        batch = [
            np.empty((len(chosen), LENGTH, *array.shape[1:]), array.dtype)
            for array in (keypoints_2d, pose_3d)
        ]
        for place, window in enumerate(chosen):
            first, offset = windows.start[window], windows.offset[window]
            low, high = max(first, 0), min(first + LENGTH, FRAMES)
            for out, array in zip(batch, (keypoints_2d, pose_3d), strict=True):
                piece = array[offset + low : offset + high]
                out[place] = np.pad(
                    piece, ((low - first, first + LENGTH - high), (0, 0), (0, 0)), "edge"
                )
        return batch

    example = generator.integers(0, len(windows), BATCH)
    assert all(
        np.array_equal(*pair) for pair in zip(gathered(example), sliced(example), strict=True)
    )
    rates = {gathered: [], sliced: []}
    for _ in range(ROUNDS):
        for way, seen in rates.items():
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < 0.5:
                way(generator.integers(0, len(windows), BATCH))
                count += BATCH
            seen.append(count / (time.perf_counter() - start))
    ratios = np.array(rates[gathered]) / np.array(rates[sliced])
    print(
        f"gathered: {np.median(rates[gathered]):,.0f} windows/s (lowest "
        f"{min(rates[gathered]):,.0f})"
    )
    print(
        f"ratio to slices: {np.median(ratios):.2f} (from {ratios.min():.2f} to "
        f"{ratios.max():.2f}, {ROUNDS} pairs)"
    )


if __name__ == "__main__":
    main()
