"""Recorded motion in BVH or ASF/AMC files -> sequence records."""
