"""Computes errors of poses and keypoints from arrays, as (sum, count) or per person."""
