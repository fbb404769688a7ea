"""Finds 2D keypoints in a video with another program's networks, and writes them as MMPose does.

It runs in the detector's own environment, by the path of this file, and imports nothing of this
package: detectors ask for versions of NumPy that this program does not run with.

  ENVIRONMENT/bin/python detecting.py mediapipe VIDEO OUT.json
  ENVIRONMENT/bin/python detecting.py rtmlib VIDEO OUT.json
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

# Persons in a frame: joints [[x, y], ...] in pixels, and their scores.
Persons = list[tuple[list[list[float]], list[float]]]


def mediapipe() -> tuple[list[str], Callable[[Any], Persons]]:
    """Opens MediaPipe's pose network, which finds one person.

    Returns:
      The names of the joints, and the function from a frame (BGR) to its persons.
    """
    from mediapipe.python.solutions import pose  # its wheel holds the network

    network = pose.Pose(model_complexity=1)

    def find(frame: Any) -> Persons:
        height, width = frame.shape[:2]
        found = network.process(frame[:, :, ::-1]).pose_landmarks
        if found is None:
            return []
        points = [[one.x * width, one.y * height] for one in found.landmark]
        return [(points, [float(one.visibility) for one in found.landmark])]

    return [one.name.lower() for one in pose.PoseLandmark], find


def rtmlib() -> tuple[list[str], Callable[[Any], Persons]]:
    """Opens RTMPose with Halpe's 26 joints, which finds all persons.

    Its networks are downloaded when they are used for the first time.
    """
    from rtmlib import BodyWithFeet
    from rtmlib.visualization.skeleton import halpe26

    network = BodyWithFeet(to_openpose=False, backend="onnxruntime", device="cpu")

    def find(frame: Any) -> Persons:
        points, scores = network(frame)
        return [(one.tolist(), own.tolist()) for one, own in zip(points, scores, strict=True)]

    info = halpe26.halpe26["keypoint_info"]
    return [info[index]["name"] for index in sorted(info)], find


DETECTORS = {"mediapipe": mediapipe, "rtmlib": rtmlib}


NOT_INSTALLED = 3  # the exit code where the detector's package is missing
FRAME = "frame"  # the line that is printed for each frame, by which the other process counts


def main(detector: str, video: str, out: str) -> None:
    """Detects persons in every frame.

    The first line of the file says what was detected, by which its reader knows whether it is of
    this video. The process ends when the one that started it is gone.

    Raises:
      SystemExit: a package is missing, or the video cannot be decoded. One sentence is printed.
    """
    starter = os.getppid()
    try:
        import cv2

        names, find = DETECTORS[detector]()
    except ImportError as error:
        print(error, file=sys.stderr)
        raise SystemExit(NOT_INSTALLED) from error
    head = {
        "keypoint_id2name": {str(index): name for index, name in enumerate(names)},
        **made_from(detector, video),
    }
    capture = cv2.VideoCapture(video)
    part = f"{out}.part"
    number = 0
    with open(part, "w", encoding="utf-8") as file:
        file.write(f'{{"meta_info": {json.dumps(head)},\n"instance_info": [')
        while os.getppid() == starter:
            there, frame = capture.read()
            if not there:
                break
            instances = [
                {"keypoints": points, "keypoint_scores": scores} for points, scores in find(frame)
            ]
            file.write(("," if number else "") + "\n")
            file.write(json.dumps({"frame_id": number, "instances": instances}))
            number += 1
            print(FRAME, flush=True)
        else:
            os.remove(part)
            raise SystemExit("the program that asked for keypoints has ended")
        file.write("]}\n")
    if not number:
        os.remove(part)
        raise SystemExit("no frame of the video can be decoded")
    os.replace(part, out)


def made_from(detector: str, video: str) -> dict[str, Any]:
    """Identifies what a file of keypoints was made from: the detector and the video's content."""
    stat = os.stat(video)
    return {
        "detector": detector,
        "video": {"bytes": stat.st_size, "changed_ns": stat.st_mtime_ns},
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
