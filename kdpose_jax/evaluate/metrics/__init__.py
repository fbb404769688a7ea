"""Metrics on arrays: errors of poses and of keypoints, as (sum, count) or per person."""
