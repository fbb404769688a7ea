"""Bounds the memory that users' files may cost; `make fuzz` holds the readers to it.

| files | the memory that reading one takes, at most |
|---|---|
| npz (VideoPose3D) | `UNPACKED + UNPACKING * size` for an entry, `SHARING` times that for arrays; |
| | `OPCODES` objects of 250 bytes |
| PyTorch, zip or older | the size and `SHARING * size` for the tensors; |
| | `OPCODES` objects of 250 bytes |
| safetensors | the size, and 40 times the header, which has at most `SAFETENSORS` |
| mat (MATLAB 5) | four times what is unpacked: `UNPACKED + UNPACKING * size`, at most `MATLAB` |
| mat (MATLAB 7.3) | as much for all arrays together, at most `HDF5` |
| BVH, ASF, AMC | 35 times the size (a list of short lines), which is at most `TEXT`; |
| | 300 bytes for each of `PLACES` |
| JSON | 40 times the size (a list of empty dictionaries), which is at most `JSON` |
| keypoints (JSON, csv, txt) | 16 bytes for each of `KEYPOINTS`, twice; 40 times `JSON_PART` or |
| | `LINE` for the part that is read |
| JPEG, PNG, BMP | `PICTURE_BYTES` and nine bytes for each of `PIXELS`, per decoding thread |
| TFRecord | three times the size of the shard: no record is longer than its file |

A file that claims more is refused before anything is allocated for it.
"""

MIB = 2**20
# The unpacked size of an archive's entry. It has a fixed part for small files and a multiple of the
# file's size for others, because motion shrinks to a tenth at best. It is at most ten times
# Human3.6M.
UNPACKED = 64 * MIB
UNPACKING = 100
LARGEST_ENTRY = 8192 * MIB
# Arrays may share their bytes (tied weights), but not so often that copies of them would fill the
# memory.
SHARING = 8
OPCODES = 1_000_000  # in one pickle; an HRNet with its optimiser has 200,000
# Values in one tuple, which include the values of nested tuples each time that they occur. Python
# hashes a tuple that is a key by recursion, which has no other bound.
TUPLE_VALUES = 10_000
DIMENSIONS = 16
MATLAB = 1024 * MIB  # MPI-INF-3DHP's longest sequence has 320 MiB
HDF5 = 1024 * MIB
TEXT = 512 * MIB  # CMU's longest motion has 5 MiB
# Joints times frames in one file, which is half an hour of 50 joints at 100 frames per second.
PLACES = 10_000_000
JOINTS = 1000  # in one skeleton
# Joints times detections in the keypoints of one video. Two hours with two persons at 50 frames per
# second have 19 million with 26 joints, and 98 million with 136.
KEYPOINTS = 120_000_000
LINE = 4 * MIB  # characters in one line of a table
# Of a JSON file that is read piece by piece, in characters.
JSON_PART = 16 * MIB
JSON = 1024 * MIB  # COCO's training annotations have 240 MiB
SAFETENSORS = 16 * MIB  # the header; an HRNet's has 0.3 MiB, and the format allows 100 MB
PICTURE_BYTES = 256 * MIB
PIXELS = 100_000_000


def unpacked(size: int) -> int:
    """Returns how many bytes an entry may have in a compressed archive of `size` bytes."""
    return min(UNPACKED + UNPACKING * size, LARGEST_ENTRY)
