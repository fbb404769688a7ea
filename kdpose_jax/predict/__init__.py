"""Predicts poses from what users have: keypoints of any detector, pictures and videos."""
