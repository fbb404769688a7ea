"""Reads keypoints as detectors write them: one module for each tool, listed in `recognise`."""
