"""Who is who: ids, boxes, and ids that say nothing."""

import numpy as np
import pytest

from kdpose_jax.errors import UserError
from kdpose_jax.keypoints import persons
from kdpose_jax.keypoints.tracks import Keypoints


def walkers(count, frames, speed=4.0, seed=0):
    """Persons 300 pixels apart who walk to the right, `[count, frames, 5, 3]`."""
    rng = np.random.default_rng(seed)
    values = np.ones((count, frames, 5, 3))
    values[..., :2] = rng.uniform(0, 100, (count, 1, 5, 2))
    values[..., 0] += 300 * np.arange(count)[:, None, None] + speed * np.arange(frames)[:, None]
    return values


def detections(values, rows, ids):
    """Detections of (person, frame) in an order, with the ids that a file gives them."""
    frames = np.asarray([frame for _, frame in rows])
    return persons.Detections(frames, np.stack([values[p, f] for p, f in rows]), ids)


def shuffled(count, frames, seed=1):
    rng = np.random.default_rng(seed)
    return [(p, f) for f in range(frames) for p in rng.permutation(count).tolist()]


def require_tracks(tracks, values, names=None):
    """Each track is one person in all frames, whatever the order."""
    found = set()
    for track in tracks:
        (person,) = [
            p for p in range(len(values)) if np.array_equal(track.points, values[p, ..., :2])
        ]
        found.add(person)
        if names:
            assert track.name == names[person]
    assert found == set(range(len(values)))


def test_ids_decide_although_persons_cross():
    values = walkers(2, 100)
    values[1, ..., 0] -= 8 * np.arange(100)[:, None]  # to the left, through the other
    rows = shuffled(2, 100)
    tracks, notes = persons.track(detections(values, rows, [(f"p{p}",) for p, _ in rows]), "'a'")
    require_tracks(tracks, values, ["p0", "p1"])
    assert notes == []


def test_boxes_decide_without_ids():
    values = walkers(3, 50)
    rows = shuffled(3, 50)
    tracks, notes = persons.track(detections(values, rows, [()] * len(rows)), "'a'")
    require_tracks(tracks, values)
    assert sorted(track.name for track in tracks) == ["1", "2", "3"]
    assert notes == [
        "150 of 150 detections have no id; they were joined to persons by the overlap of boxes "
        "from frame to frame."
    ]


def test_short_gaps_continue_and_long_ones_begin_anew():
    values = walkers(1, 200, speed=0.5)
    rows = [(0, f) for f in range(200) if not 20 <= f < 40 and not 80 <= f < 150]
    tracks, _ = persons.track(detections(values, rows, [()] * len(rows)), "'a'")
    assert [(track.frames[0], track.frames[-1]) for track in tracks] == [(0, 79), (150, 199)]


def test_a_far_person_is_another_one():
    values = walkers(2, 20)
    rows = [(0, f) for f in range(10)] + [(1, f) for f in range(10, 20)]
    tracks, _ = persons.track(detections(values, rows, [()] * 20), "'a'")
    assert [track.frames.tolist() for track in tracks] == [[*range(10)], [*range(10, 20)]]


def test_merged_ids_go_to_the_nearest_of_them():
    values = walkers(2, 30)
    rows = shuffled(2, 30)
    ids = [("1", "2") if f in (0, 11, 12) else (str(p + 1),) for p, f in rows]
    tracks, notes = persons.track(detections(values, rows, ids), "'a'")
    require_tracks(tracks, values, ["1", "2"])
    assert any(note.startswith("6 detections have several ids") for note in notes)


def test_an_id_twice_in_a_frame_stays_with_the_nearest():
    values = walkers(2, 60)
    rows = shuffled(2, 60)
    ids = [("1",) if f == 30 else (str(p + 1),) for p, f in rows]
    tracks, notes = persons.track(detections(values, rows, ids), "'a'")
    require_tracks(tracks, values, ["1", "2"])
    assert any(note.startswith("2 detections share their id") for note in notes)


def test_one_id_for_everybody_says_nothing():
    values = walkers(3, 40)
    rows = shuffled(3, 40)
    tracks, _ = persons.track(detections(values, rows, [("0",)] * len(rows)), "'a'")
    require_tracks(tracks, values)
    assert len({track.name for track in tracks}) == 3


def test_detections_without_an_id_join_their_neighbour():
    values = walkers(2, 30)
    rows = shuffled(2, 30)
    ids = [() if f < 4 or f == 20 else (str(p + 7),) for p, f in rows]
    tracks, notes = persons.track(detections(values, rows, ids), "'a'")
    require_tracks(tracks, values, ["7", "8"])
    assert any(note.startswith("10 of 60 detections have no id") for note in notes)


def test_frames_out_of_order_are_sorted():
    values = walkers(2, 25)
    rows = shuffled(2, 25)[::-1]
    tracks, _ = persons.track(detections(values, rows, [(str(p),) for p, _ in rows]), "'a'")
    require_tracks(tracks, values, ["0", "1"])


def test_persons_without_joints_are_left_out():
    values = walkers(2, 5)
    values[1] = (np.nan, np.nan, 0)
    rows = shuffled(2, 5)
    tracks, notes = persons.track(detections(values, rows, [()] * 10), "'a'")
    assert len(tracks) == 1 and notes[0] == "5 detections without any joint were left out."
    with pytest.raises(UserError, match="'a' has no joint"):
        persons.track(detections(values, [(1, 0)], [()]), "'a'")


def test_crowds_are_one_sentence():
    values = np.ones((600, 1, 5, 3)) * np.arange(1, 601)[:, None, None, None]
    rows = [(p, 0) for p in range(600)]
    with pytest.raises(UserError, match="600 persons in frame 0, and at most 500"):
        persons.track(detections(values, rows, [()] * 600), "'a'")
    tracks, _ = persons.track(detections(values, rows, [(str(p),) for p, _ in rows]), "'a'")
    assert len(tracks) == 600


def test_a_person_is_chosen_by_name():
    values = walkers(2, 9)
    rows = shuffled(2, 9)
    tracks, _ = persons.track(detections(values, rows, [("ab"[p],) for p, _ in rows]), "'a'")
    keypoints = Keypoints(tracks, ("x",) * 5, "own", None, None, 9, "plain", ())
    chosen = persons.choose(keypoints, "b")
    assert [track.name for track in chosen.tracks] == ["b"]
    assert chosen.notes == ("Person b was chosen of 2.",)
    with pytest.raises(UserError, match="--person c is not .*: use one of . in 9 frames, . in 9"):
        persons.choose(keypoints, "c")


def test_detections_that_stand_there_twice_are_left_out():
    """Two files with some frames in common were merged, once with ids and once without."""
    values = walkers(2, 30)
    values[0, 7, 2] = (np.nan, np.nan, 0)
    rows = [(p, f) for f in range(20) for p in (0, 1)] + [
        (p, f) for f in range(5, 30) for p in (1, 0)
    ]
    for ids in ([()] * len(rows), [(f"p{p}",) for p, _ in rows]):
        tracks, notes = persons.track(detections(values, rows, ids), "'a'")
        for track in tracks:
            assert track.frames.tolist() == list(range(30))
        assert len(tracks) == 2 and notes[0].startswith("30 detections stand in the file a second")
    # The same place under another id is another person's.
    ids = [(f"{place}",) for place in range(len(rows))]
    assert len(persons.track(detections(values, rows, ids), "'a'")[0]) == len(rows)
