"""Which training subjects and photographs are held out: by rules that repeat themselves."""

import hashlib

import pytest

from data_prep import held_out


def by_hash(names):
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).hexdigest())


def test_subjects_come_in_the_order_of_their_hash_up_to_a_tenth():
    names = [f"{number:02d}" for number in range(30)]
    expected = tuple(by_hash(names)[:3])
    assert held_out.draw_subjects(dict.fromkeys(names, 7)) == expected
    assert held_out.draw_subjects(dict.fromkeys(reversed(names), 7)) == expected


def test_a_subject_that_is_too_large_is_passed_over():
    first, second, *others = by_hash([f"P{number}" for number in range(12)])
    frames = {first: 200, second: 99, **dict.fromkeys(others, 70)}  # 999 in all
    assert held_out.draw_subjects(frames) == (second,)


@pytest.mark.parametrize(
    ("frames", "drawn"),
    [
        ({}, ()),
        ({"only": 5}, ()),
        ({"A": 300, "B": 299}, ("B",)),
        ({"A": 10, "B": 30, "C": 20}, ("A",)),
    ],
)
def test_of_few_subjects_the_smallest_is_held_out_and_of_one_nobody(frames, drawn):
    assert held_out.draw_subjects(frames) == drawn


def test_the_published_training_subjects_of_mpi_inf_3dhp():
    """docs/data/mpi_inf_3dhp.md names the one that is drawn."""
    frames = {
        "S1": 6416 + 12430, "S2": 6502 + 6081, "S3": 12488 + 12283, "S4": 6171 + 6675,
        "S5": 12820 + 12312, "S6": 6188 + 6145, "S7": 6239 + 6320, "S8": 6468 + 6054,
    }  # fmt: skip
    assert held_out.draw_subjects(frames) == ("S8",)


def test_about_a_twentieth_of_the_photographs_whichever_others_there_are():
    names = [f"{number:09d}.jpg" for number in range(4000)]
    drawn = held_out.draw_photographs(names)
    assert 160 < len(drawn) < 240
    assert held_out.draw_photographs(names[:2000]) == drawn & set(names[:2000])
    assert drawn == {
        name for name in names
        if int(hashlib.sha256(name.encode()).hexdigest(), 16) / 2**256 < 0.05
    }  # fmt: skip


def test_of_few_photographs_one_is_drawn_and_of_one_none():
    names = ["a.jpg", "b.jpg", "c.jpg"]
    assert held_out.draw_photographs(names * 2) == {by_hash(names)[0]}
    assert held_out.draw_photographs(["a.jpg"] * 3) == set()
