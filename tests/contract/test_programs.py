"""Compiled steps cost what they cost before, by numbers that do not depend on the machine.

A change that moves a number on purpose records the new ones (CONTRIBUTING.md#compiled-programs).
"""

import json
import os
import pathlib

import jax
import pytest
import tiny

from benchmarks import hlo, networks

RECORDED = pathlib.Path(__file__).with_name("programs.json")
RECORD = "KDPOSE_RECORD_PROGRAMS"
MOVES = "copies and transposes"
TOLERANCE = 0.05  # of all but the copies and transposes
SMALLEST = 1024  # bytes; smaller arrays are states of random numbers and the like


def demo_of_scjd(stage):
    """The demo's step with half of its layers, which halves the time to compile."""
    config = tiny.get_config("scjd", "demo")
    config.teacher.network.depth = config.student.network.depth = 1
    return networks.run_of(config, stage)


STEPS = {
    "SCJD teacher": lambda: demo_of_scjd("teacher"),
    "SCJD student": lambda: demo_of_scjd("student"),
    "CDKD student": lambda: tiny.run_of("cdkd", "demo", "student"),
}


def measured(run):
    """Compiles a step for one CPU device, and reads off what it does."""
    with jax.numpy_dtype_promotion("standard"):  # optax's Adam raises a float to an integer power
        traced = networks.traced_step(run, tiny.mesh_of(1), run.block.train.batch)
    compiled = traced.lower().compile()
    program, cost = hlo.parse(compiled.as_text()), compiled.cost_analysis()
    return {
        "flops": cost["flops"],
        "bytes accessed": cost["bytes accessed"],
        MOVES: program.moves(SMALLEST),
        "largest array, bytes": program.largest_array(),
        "temporaries, bytes": compiled.memory_analysis().temp_size_in_bytes,
    }


@pytest.mark.parametrize("name", STEPS)
def test_step_costs_what_it_did(name):
    recorded = json.loads(RECORDED.read_text())
    found = measured(STEPS[name]())
    if RECORD in os.environ:
        recorded |= {"jax": jax.__version__, name: found}
        RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
        pytest.skip(f"{RECORD} is set: recorded {found}")
    if recorded["jax"] != jax.__version__:
        pytest.skip(f"recorded with jax {recorded['jax']}, and this is {jax.__version__}")
    assert found == pytest.approx(recorded[name], rel=TOLERANCE)
    assert found[MOVES] == recorded[name][MOVES]
