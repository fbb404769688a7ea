"""Converts recorded motion in BVH or ASF/AMC files to sequence records."""
