"""What files of users may cost in memory, all in one place; `make fuzz` holds the readers to it.

| files | the memory that reading one takes, at most |
|---|---|
| npz (VideoPose3D) | `UNPACKED + UNPACKING * size` for an entry, `SHARING` times that for its arrays; `OPCODES` objects of 250 bytes |
| pth, pt, bin (PyTorch) | the size and `SHARING * size` for the tensors; `OPCODES` objects of 250 bytes |
| mat (MATLAB 5) | four times `MATLAB`, which bounds the file and what is unpacked of it |
| JSON | 40 times the size (a list of empty dictionaries), and `JSON` at the largest |
| JPEG, PNG, BMP | `PICTURE_BYTES` and nine bytes for each of `PIXELS`, for every thread that decodes |
| TFRecord | three times the size of the shard: no record is longer than its file |

A claim of more is refused before anything is allocated for it.
"""

MIB = 2**20
# An archive's entry unpacked: a fixed part for small files, a multiple of the file's size for others (motion shrinks to no less than a
# tenth), and never more than ten times Human3.6M.
UNPACKED = 64 * MIB
UNPACKING = 100
LARGEST_ENTRY = 8192 * MIB
# Arrays may share their bytes (tied weights), but not so often that copies of them would fill the memory.
SHARING = 8
OPCODES = 1_000_000  # of one pickle: an HRNet with its optimiser has 200,000
# Values of one tuple, those of tuples in it counted every time: a tuple as a key is hashed by a recursion that has no other bound.
TUPLE_VALUES = 10_000
DIMENSIONS = 16
MATLAB = 64 * MIB  # MPII's is 1.5
JSON = 1024 * MIB  # COCO's training annotations have 240
PICTURE_BYTES = 256 * MIB
PIXELS = 100_000_000


def unpacked(size: int) -> int:
    """The bytes that an entry of a compressed archive of `size` bytes may have."""
    return min(UNPACKED + UNPACKING * size, LARGEST_ENTRY)
