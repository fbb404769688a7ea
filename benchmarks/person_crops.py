"""Measures how fast crops of persons are made from records, in two views each.

A crop takes one decode, one random draw and two warps.

  python -m benchmarks.person_crops RECORDS [SPLIT]

RECORDS is a folder that `python -m data_prep.convert mpii` (or coco) wrote. Prints persons per
second for a teacher's view of 256 pixels and a student's of 64, for the student's alone, and for
decoding alone. Also prints what the records cost in bytes and pixels. The rate per second of
processor time is one core's, and hardly depends on what else runs.
"""

import concurrent.futures
import os
import sys
import time

import numpy as np

from kdpose_jax.data import images, persons

BATCH, ROUNDS, SECONDS = 64, 5, 2.0


def main(records: str, split: str) -> None:
    """Reads the records and measures the times."""
    data = persons.read(records, split)
    sizes = np.array([len(image) for image in data.image])
    pixels = data.region[:, 2] * data.region[:, 3]
    share = pixels / data.photograph.prod(1)
    print(
        f"{len(data):,} persons, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; "
        f"medians of the regions: {np.median(sizes) / 1e3:.0f} kB, {np.median(pixels) / 1e3:.0f} "
        f"thousand pixels, {np.median(share):.0%} of the photograph"
    )
    half = data.reach.half_body and 0.3
    settings = {
        "scale_factor": data.reach.scale_factor,
        "rotation_factor": data.reach.rotation_factor,
        "half_body_probability": half,
    }
    generator = np.random.default_rng(0)
    for title, views in (
        ("256 and 64", {"image": 64, "teacher_image": 256}),
        ("64 alone", {"image": 64}),
    ):
        source = persons.open_training(data, views=views, seed=0, flip=True, **settings)

        def gather(examples: np.ndarray, source: persons.PersonSource = source) -> None:
            source.gather(examples, np.zeros(len(examples), int))

        report(title, gather, len(data), generator)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as executor:

        def decode(examples: np.ndarray) -> None:
            list(executor.map(images.decode, [data.image[example] for example in examples]))

        report("decoding alone", decode, len(data), generator)


def report(title: str, work, count: int, generator: np.random.Generator) -> None:
    """Prints the median rate for random batches, by the clock and by processor time."""
    work(generator.integers(0, count, BATCH))
    rates, per_core = [], []
    for _ in range(ROUNDS):
        start, processor, done = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - start < SECONDS:
            work(generator.integers(0, count, BATCH))
            done += BATCH
        rates.append(done / (time.perf_counter() - start))
        per_core.append(done / (time.process_time() - processor))
    print(
        f"{title}: {np.median(rates):,.0f} persons/s (lowest {min(rates):,.0f}, {ROUNDS} rounds), "
        f"{np.median(per_core):,.0f} per second of processor time",
        flush=True,
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "train")
