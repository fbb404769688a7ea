"""Compares cut regions as JPEG with lossless PNG: grey levels, bytes, time to decode.

  python -m benchmarks.region_encoding SOURCE

SOURCE is a folder in COCO's layout. Its training split is converted twice, into a temporary folder.
Regions that are whole photographs keep their file's bytes either way, so they count only in the
size of all images. A mean is the mean over all pictures' means. Time is processor time.
"""

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from data_prep import coco, convert
from kdpose_jax import entry
from kdpose_jax.data import images, persons
from kdpose_jax.errors import UserError

# Sides of the student's and teacher's crops, pixels.
VIEWS = {"image": 64, "teacher_image": 256}
ROUNDS = 5


def main(source: str) -> None:
    """Converts, compares and prints."""
    read = {}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        for encoding in ("jpeg", "png"):
            out = os.path.join(folder, encoding)
            convert.prepare(
                "coco", out, source=source, splits=("train",), encoding=encoding, workers=1
            )
            read[encoding] = persons.read(out, "train")
    jpeg, png = read["jpeg"], read["png"]
    cut = [
        person
        for person in range(len(jpeg))
        if not np.array_equal(jpeg.image[person], png.image[person])
    ]
    every = [sum(map(len, data.image)) / 1e6 for data in (jpeg, png)]
    print(
        f"{len(jpeg)} persons, {len(cut)} of them in regions that were cut; all images "
        f"{every[0]:.1f} MB, with PNG {every[1]:.1f} MB"
    )
    regions = [[images.decode(data.image[person]) for person in cut] for data in (jpeg, png)]
    print(f"regions: {difference(*regions)}")
    crops = [
        persons.open_evaluation(data, views=VIEWS).gather(np.asarray(cut)) for data in (jpeg, png)
    ]
    for name, size in VIEWS.items():
        print(f"crops of {size} pixels: {difference(*(batch[name] for batch in crops))}")
    names = (os.path.join(source, coco.LAYOUT["train_images"], jpeg.file[person]) for person in cut)
    whole = [np.fromfile(name, np.uint8) for name in names]
    files = {
        "JPEG": [jpeg.image[person] for person in cut],
        "PNG": [png.image[person] for person in cut],
        "whole photographs": whole,
    }
    costs = {
        title: (sum(map(len, encoded)), decoding_seconds(encoded))
        for title, encoded in files.items()
    }
    for title, (count, seconds) in costs.items():
        ratios = " and ".join(
            f"{cost / own:.2f}" for cost, own in zip((count, seconds), costs["JPEG"], strict=True)
        )
        print(
            f"{title}: {count / len(cut) / 1e3:.1f} kB and {1e3 * seconds / len(cut):.2f} ms each "
            f"to decode, {ratios} times JPEG's"
        )


def difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> str:
    """Writes the mean and the largest difference between pictures."""
    apart = [np.abs(a.astype(int) - b.astype(int)) for a, b in zip(one, other, strict=True)]
    mean, most = np.mean([each.mean() for each in apart]), max(each.max() for each in apart)
    return f"{mean:.2f} grey levels off in the mean, {most} at most"


def decoding_seconds(encoded: Sequence[np.ndarray]) -> float:
    """Measures the processor time to decode all pictures, the median over rounds."""
    taken = []
    for _ in range(ROUNDS):
        start = time.process_time()
        for picture in encoded:
            images.decode(picture)
        taken.append(time.process_time() - start)
    return float(np.median(taken))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.region_encoding",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SOURCE", help="a folder in COCO's layout")
    try:
        main(parser.parse_args().source)
    except UserError as error:
        sys.exit(entry.tell(error))
