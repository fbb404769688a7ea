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


def main(detector: str, video: str, out: str) -> None:
    """Detects persons in every frame.

    Raises:
      SystemExit: a package is missing, or the video cannot be decoded. It has one sentence.
    """
    try:
        import cv2

        names, find = DETECTORS[detector]()
    except ImportError as error:
        raise SystemExit(f"{error}") from error
    capture = cv2.VideoCapture(video)
    part = f"{out}.part"
    number = 0
    with open(part, "w", encoding="utf-8") as file:
        names_by_index = {str(index): name for index, name in enumerate(names)}
        head = json.dumps({"keypoint_id2name": names_by_index, "detector": detector})
        file.write('{"meta_info": ' + head + ', "instance_info": [')
        while True:
            there, frame = capture.read()
            if not there:
                break
            instances = [
                {"keypoints": points, "keypoint_scores": scores} for points, scores in find(frame)
            ]
            file.write(("," if number else "") + "\n")
            file.write(json.dumps({"frame_id": number, "instances": instances}))
            number += 1
        file.write("]}\n")
    if not number:
        os.remove(part)
        raise SystemExit("no frame of the video can be decoded")
    os.replace(part, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
