"""What files of users may cost in memory, all in one place; `make fuzz` holds the readers to it.

| files | the memory that reading one takes, at most |
|---|---|
| npz (VideoPose3D) | `UNPACKED + UNPACKING * size` for an entry, `SHARING` times that for its
arrays; `OPCODES` objects of 250 bytes | | PyTorch, zip or older | the size and `SHARING * size` for
the tensors; `OPCODES` objects of 250 bytes | | safetensors | the size, and 40 times that of the
header, `SAFETENSORS` at the largest | | mat (MATLAB 5) | four times what is unpacked: `UNPACKED +
UNPACKING * size`, and `MATLAB` at the largest | | mat (MATLAB 7.3) | as much for all arrays
together, and `HDF5` at the largest | | BVH, ASF, AMC | 35 times the size (a list of short lines),
`TEXT` at the largest, and 300 bytes for each of `PLACES` | | JSON | 40 times the size (a list of
empty dictionaries), and `JSON` at the largest | | JPEG, PNG, BMP | `PICTURE_BYTES` and nine bytes
for each of `PIXELS`, for every thread that decodes |
| TFRecord | three times the size of the shard: no record is longer than its file |

A claim of more is refused before anything is allocated for it.
"""

MIB = 2**20
# An archive's entry unpacked: a fixed part for small files, a multiple of the file's size for
# others (motion shrinks to no less than a tenth), and never more than ten times Human3.6M.
UNPACKED = 64 * MIB
UNPACKING = 100
LARGEST_ENTRY = 8192 * MIB
# Arrays may share their bytes (tied weights), but not so often that copies of them would fill the
# memory.
SHARING = 8
OPCODES = 1_000_000  # of one pickle: an HRNet with its optimiser has 200,000
# Values of one tuple, those of tuples in it counted every time: a tuple as a key is hashed by a
# recursion that has no other bound.
TUPLE_VALUES = 10_000
DIMENSIONS = 16
MATLAB = 1024 * MIB  # MPI-INF-3DHP's longest sequence has 320 unpacked
HDF5 = 1024 * MIB
TEXT = 512 * MIB  # CMU's longest motion has 5
# Joints times frames of one file: half an hour of 50 joints at 100 frames per second.
PLACES = 10_000_000
JOINTS = 1000  # of one skeleton
JSON = 1024 * MIB  # COCO's training annotations have 240
SAFETENSORS = 16 * MIB  # of the header: an HRNet's has 0.3; the format's own limit is 100
PICTURE_BYTES = 256 * MIB
PIXELS = 100_000_000


def unpacked(size: int) -> int:
    """The bytes that an entry of a compressed archive of `size` bytes may have."""
    return min(UNPACKED + UNPACKING * size, LARGEST_ENTRY)
