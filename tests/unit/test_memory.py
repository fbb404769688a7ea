"""The bytes of a run from shapes alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from tiny import get_config

from kdpose_jax.contracts import Method
from kdpose_jax.errors import UserError
from kdpose_jax.experiment import memory, pipeline
from kdpose_jax.experiment.run import build


def dense(width):
    """One matrix between a tanh and a square: what its backward pass keeps can be written down."""

    def loss(params, model_state, frozen, batch, key, step):
        hidden = jnp.tanh(batch["x"] @ params["student"])
        return jnp.square(hidden).mean(), ({}, model_state)

    def init(key, batch):
        return (
            {"student": jnp.zeros((width, width))},
            {},
            {"teacher": {"params": jnp.zeros((5, 7)), "state": {}}},
        )

    def predict(params, model_state, batch):
        raise AssertionError("nothing is predicted to count bytes")

    return Method(init=init, loss=loss, predict=predict, predict_with_flip=predict)


def estimate(width=8, batch=12, accumulate=1, devices=4, with_ema=False, fsdp=False):
    example = {"x": np.zeros((1, width), np.float32)}
    return memory.estimate(
        dense(width),
        optax.adam(1e-3),
        example,
        batch=batch,
        accumulate=accumulate,
        devices=devices,
        with_ema=with_ema,
        fsdp=fsdp,
        platform="cpu",
    )


def test_bytes_of_a_matrix():
    found = estimate()
    matrix, share = 8 * 8 * 4, 3 * 8 * 4
    assert (found.parameters, found.gradients, found.teachers) == (matrix, matrix, 5 * 7 * 4)
    assert found.optimizer == 2 * matrix + 4  # two moments and a counter
    # The input and the product, from which tanh and square are computed again; nothing of the other
    # devices' share. The product and its gradient are there in the backward pass.
    assert found.activations == found.working == 2 * share
    assert found.total == 4 * matrix + 4 + 5 * 7 * 4 + 4 * share
    assert estimate(with_ema=True).parameters == 2 * matrix
    assert estimate(devices=1).activations == 4 * found.activations


def test_bytes_of_parts_and_shares():
    """In 3 parts a device keeps a third of its activations at a time and a second set of gradients.

    Shared, a quarter of the matrix.
    """
    whole, parts = estimate(batch=120), estimate(batch=120, accumulate=3)
    share, matrix = 30 * 8 * 4, 8 * 8 * 4
    assert parts.gradients == 2 * whole.gradients and parts.parameters == whole.parameters
    # The batch is there either way.
    assert whole.activations - share == 3 * (parts.activations - share) == share
    wide, shared = estimate(width=512), estimate(width=512, fsdp=True)
    matrix = 512 * 512 * 4
    assert wide.parameters == matrix and shared.parameters == shared.gradients == matrix / 4
    assert shared.optimizer == 2 * matrix / 4 + 4 and shared.activations == wide.activations


def test_a_run_that_cannot_fit_is_refused(monkeypatch):
    device = jax.devices()[0]
    needed = estimate()
    monkeypatch.setattr(memory, "memory_of", lambda _: needed.total * 2)
    memory.require_room("student", needed, device)
    monkeypatch.setattr(memory, "memory_of", lambda _: needed.total)  # a part is kept in reserve
    with pytest.raises(
        UserError,
        match="^The student needs about .* per device: parameters .*: use more devices, a smaller",
    ):
        memory.require_room("student", needed, device)
    monkeypatch.setattr(memory, "memory_of", lambda _: None)  # a device that does not tell
    memory.require_room("student", needed, device)


def test_memory_of_the_cpu_is_shared_out():
    assert 0 < memory.memory_of(jax.devices()[0]) * jax.local_device_count() < 2**50


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        (
            "0::/a/b\n",
            {"a/b/memory.max": "max", "a/memory.max": "3000", "memory.max": "5000"},
            [5000, 3000],
        ),
        ("0::/\n", {"memory.max": "7000"}, [7000]),
        (
            "9:cpu:/x\n4:cpuset,memory:/host/only\n0::/\n",
            {"memory/memory.limit_in_bytes": "4000", "cpu/x/memory.max": "1"},
            [4000],
        ),
        (
            "4:memory:/job:1\n",
            {
                "memory/job:1/memory.limit_in_bytes": "2000",
                "memory/memory.limit_in_bytes": str(2**63 - 4096),
            },
            [2**63 - 4096, 2000],
        ),
        ("0::/\n", {}, []),
        (None, {}, []),
    ],
)
def test_limits_of_control_groups(tmp_path, groups, files, expected):
    for name, text in {f"sys/fs/cgroup/{name}": text for name, text in files.items()}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{text}\n")
    if groups is not None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text(groups)
    assert memory.control_group_limits(tmp_path) == expected


def test_a_container_has_less_than_the_machine(tmp_path, monkeypatch):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("0::/\n")
    (tmp_path / "sys/fs/cgroup/memory.max").write_text("8192000\n")
    monkeypatch.setattr(memory, "ROOT", tmp_path)
    assert memory.memory_of(jax.devices()[0]) == 8192000 // jax.local_device_count()


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (3 * 2**30, "3 GiB"),
        (5000 * 2**30, "5000 GiB"),
    ],
)
def test_sizes_in_words(count, text):
    assert memory.size_text(count) == text


def test_dense_projectors_of_coco64():
    """0.9 G parameters are seen before anything is allocated; Kronecker ones are hardly there.

    See docs/methods/cdkd.md#projector-size.
    """
    totals = {}
    for kind in ("dense", "kron"):
        config = get_config("cdkd", "coco64")
        config.distill.projection.kind = kind
        # The projectors do not depend on it.
        config.student.network.width = config.teacher.network.width = 8
        config.student.network.modules = config.teacher.network.modules = (1, 1, 1)
        config.student.network.blocks = config.teacher.network.blocks = 1
        run = pipeline.planned_runs(config)[-1]
        built = build(run, 1000)
        example = {
            "image": np.zeros((1, 64, 64, 3), np.uint8),
            "teacher_image": np.zeros((1, 256, 256, 3), np.uint8),
            "joints": np.zeros((1, 17, 2), np.float32),
            "joint_weight": np.zeros((1, 17), np.float32),
        }
        totals[kind] = memory.estimate(
            built.method,
            built.optimizer,
            example,
            batch=8,
            accumulate=1,
            devices=8,
            with_ema=False,
            fsdp=False,
            platform="cpu",
        )
    difference = totals["dense"].parameters - totals["kron"].parameters
    assert 3.3 < difference / 2**30 < 3.45  # 3.4 GiB in float32
    assert 2 * difference == totals["dense"].optimizer - totals["kron"].optimizer
