"""Reads 2D keypoints of any detector, and brings them to joints, frames and pixels."""
