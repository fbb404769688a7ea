"""Holds figures as others printed them. They stand below our tables, never in them.

Sources: docs/methods/lifting.md#published-numbers and docs/methods/pose2d.md#published-numbers.
"""

from kdpose_jax.study.declare import Published

HUMAN36M = Published(
    "Human3.6M, CPN detections, MPJPE over actions, mm; FLOPs = 2 x MACs of linear layers",
    ("method", "frames", "MPJPE mm", "parameters", "FLOPs", "source"),
    (
        ("VideoPose3D", "27 / 81 / 243", "48.8 / 47.7 / 46.8", "-", "-", "its README"),
        (
            "PoseFormerV2, 1 frame, 3 coefficients",
            "27",
            "48.7",
            "-",
            "77.2 M a frame",
            "its README",
        ),
        (
            "PoseFormerV2, 3 frames, 3 coefficients",
            "27",
            "47.9",
            "-",
            "117.3 M a frame",
            "its README",
        ),
        (
            "PoseFormerV2, 9 frames, 9 coefficients",
            "81",
            "46.0",
            "-",
            "351.7 M a frame",
            "its README",
        ),
        (
            "PoseFormerV2, 27 frames, 27 coefficients",
            "243",
            "45.2",
            "-",
            "1054.8 M a frame",
            "its README",
        ),
        (
            "Uplift & Upsample, every 5th / 10th / 20th frame",
            "351",
            "45.7 / 46.1 / 47.8",
            "-",
            "-",
            "its README",
        ),
        (
            "MixSTE",
            "81 / 243",
            "42.4 / 40.9",
            "33.70 / 33.78 M",
            "92.4 / 277.25 G a window",
            "leader boards; FLOPs counted here",
        ),
        (
            "HoT on MixSTE, 81 of 243 frames",
            "243",
            "41.0",
            "35.00 M",
            "167.5 G a window",
            "its figure; FLOPs counted here",
        ),
        (
            "SCJD",
            "-",
            "not available to us",
            "-",
            "-",
            "only its abstract was, which has no numbers",
        ),
    ),
)
THREE_DHP = Published(
    "MPI-INF-3DHP, ground-truth 2D, P-STMO's protocol",
    ("method", "frames", "PCK", "AUC", "MPJPE mm", "source"),
    (
        ("P-STMO-S", "81", "97.9", "75.8", "32.2", "its README; PCK and AUC from memory"),
        ("PoseFormerV2", "81", "97.9", "78.8", "27.8", "its paper"),
        ("TCPFormer", "27 / 81", "98.7 / 99.0", "86.5 / 87.7", "17.8 / 15.0", "its paper"),
    ),
)
MPII = Published(
    "MPII validation, PCKh@0.5",
    ("method", "input", "PCKh@0.5", "source"),
    (
        ("SimDR, HRNet-W32, no distillation", "64x64", "78.7", "SimCC's README"),
        ("heatmap, HRNet-W32, no distillation", "64x64", "76.4", "SimCC's README"),
        ("CDKD", "64x64 / 32x32", "not available to us", "abstract and code only"),
    ),
)
