"""Cost counting: by hand, and the method's published table."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from networks import shapes_of

from kdpose_jax.evaluate.cost import (
    Cost,
    Latency,
    Macs,
    count_macs,
    count_parameters,
    measure_latency,
)
from kdpose_jax.models.mixste import MixSTE


def abstract(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def dense(inputs, kernel):
    return jnp.tanh(inputs @ kernel)


def test_dense_by_hand():
    assert count_macs(dense, abstract(5, 7, 3), abstract(3, 11)) == Macs(5 * 7 * 3 * 11, 0)
    assert count_macs(jax.jit(dense), abstract(5, 3), abstract(3, 11)) == Macs(5 * 3 * 11, 0)
    assert count_macs(jnp.tanh, abstract(5, 3)) == Macs(0, 0)


def test_a_function_with_compiler_options_is_counted():
    options = {"xla_cpu_enable_fast_math": True}
    compiled = jax.jit(dense, compiler_options=options)
    assert count_macs(compiled, abstract(5, 3), abstract(3, 11)) == Macs(5 * 3 * 11, 0)


def convolution(inputs, kernel, **options):
    return jax.lax.conv_general_dilated(
        inputs, kernel, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def test_convolution_by_hand():
    def strided(inputs, kernel):
        return convolution(inputs, kernel, window_strides=(2, 2), padding="SAME")

    def grouped(inputs, kernel):
        return convolution(
            inputs, kernel, window_strides=(1, 1), padding="VALID", feature_group_count=2
        )

    # 4 x 5 output positions, 6 outputs, each over 3 x 3 x 4 inputs.
    assert count_macs(strided, abstract(2, 8, 10, 4), abstract(3, 3, 4, 6)) == Macs(
        2 * 4 * 5 * 6 * 36, 0
    )
    # 6 x 8 positions, 6 outputs, each over 3 x 3 x 2 inputs of its group.
    assert count_macs(grouped, abstract(2, 8, 10, 4), abstract(3, 3, 2, 6)) == Macs(
        2 * 6 * 8 * 6 * 18, 0
    )


def test_transposed_convolution_by_hand():
    def transposed(inputs, kernel):
        return jax.lax.conv_transpose(
            inputs, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    # Each of 8 x 10 x 4 inputs meets 4 x 4 kernel places of 6 outputs.
    assert count_macs(transposed, abstract(2, 8, 10, 4), abstract(4, 4, 4, 6)) == Macs(
        2 * 8 * 10 * 4 * 16 * 6, 0
    )


def attention_block(tokens, kernel_qkv, kernel_out):
    count, length, width = tokens.shape
    qkv = (tokens @ kernel_qkv).reshape(count, length, 3, 2, width // 2)
    query, key, value = (qkv[:, :, part].swapaxes(1, 2) for part in range(3))
    mixed = jax.nn.softmax(query @ key.swapaxes(2, 3)) @ value
    return mixed.swapaxes(1, 2).reshape(tokens.shape) @ kernel_out


ATTENTION_ARGUMENTS = (abstract(3, 7, 8), abstract(8, 24), abstract(8, 8))
ATTENTION_MACS = Macs(linear=3 * 7 * 8 * (24 + 8), attention=2 * 3 * 7 * 7 * 8)


def test_attention_by_hand():
    assert count_macs(attention_block, *ATTENTION_ARGUMENTS) == ATTENTION_MACS


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint, jax.vmap], ids=["jit", "remat", "vmap"])
def test_wrapped_calls_count_once(wrap):
    factor = 1
    arguments = ATTENTION_ARGUMENTS
    if wrap is jax.vmap:
        factor = 4
        arguments = (abstract(4, 3, 7, 8), *ATTENTION_ARGUMENTS[1:])
        wrapped = jax.vmap(attention_block, in_axes=(0, None, None))
    else:
        wrapped = wrap(attention_block)
    assert count_macs(wrapped, *arguments) == ATTENTION_MACS.times(factor)


def test_custom_derivatives_count_once():
    @jax.custom_jvp
    def forward_mode(inputs, kernel):
        return inputs @ kernel

    @jax.custom_vjp
    def reverse_mode(inputs, kernel):
        return inputs @ kernel

    forward_mode.defjvp(
        lambda primals, tangents: (forward_mode(*primals), tangents[0] @ primals[1])
    )
    reverse_mode.defvjp(
        lambda inputs, kernel: (inputs @ kernel, kernel),
        lambda kernel, grad: (grad @ kernel.T, kernel),
    )
    for function in (forward_mode, reverse_mode):
        assert count_macs(function, abstract(5, 3), abstract(3, 11)) == Macs(5 * 3 * 11, 0)


@pytest.mark.parametrize("rematerialised", [False, True])
def test_scan_counts_every_step(rematerialised):
    body = jax.checkpoint(dense) if rematerialised else dense

    def layers(inputs, kernels):
        return jax.lax.scan(lambda carry, kernel: (body(carry, kernel), None), inputs, kernels)[0]

    def gradient(inputs, kernels):
        return jax.grad(lambda kernels: layers(inputs, kernels).sum())(kernels)

    one = 5 * 3 * 3
    assert count_macs(layers, abstract(5, 3), abstract(8, 3, 3)) == Macs(8 * one, 0)
    # Backward: two products per layer, and the forward one again if it was not kept.
    repeats = 4 if rematerialised else 3
    assert count_macs(gradient, abstract(5, 3), abstract(8, 3, 3)) == Macs(8 * repeats * one, 0)


def test_conditional_counts_the_costliest_branch():
    def choose(index, inputs, kernel):
        branches = [lambda x, k: x, lambda x, k: x @ k @ k, lambda x, k: x @ k]
        return jax.lax.switch(index, branches, inputs, kernel)

    assert count_macs(
        choose, jax.ShapeDtypeStruct((), jnp.int32), abstract(5, 3), abstract(3, 3)
    ) == Macs(2 * 5 * 9, 0)


def test_loops_of_unknown_length():
    def halve(inputs, kernel, product):
        change = (lambda x: x @ kernel) if product else (lambda x: x / 2)
        return jax.lax.while_loop(lambda x: x.sum() > 1, change, inputs)

    assert count_macs(lambda x, k: halve(x, k, False) @ k, abstract(5, 3), abstract(3, 3)) == Macs(
        5 * 9, 0
    )
    with pytest.raises(ValueError, match="'while' cannot be counted"):
        count_macs(lambda x, k: halve(x, k, True), abstract(5, 3), abstract(3, 3))


def test_parameters_of_arrays_and_shapes():
    assert count_parameters({"a": np.ones((2, 3)), "b": [abstract(4), abstract()]}) == 6 + 4 + 1
    assert count_parameters({}) == 0


def test_latency_waits_and_orders():
    times = measure_latency(jax.jit(lambda x: x @ x), np.ones((8, 8), np.float32), warmup=1, runs=5)
    assert 0 < times.lowest_s <= times.median_s <= times.highest_s
    assert times.runs == 5
    waits = []

    class Result:
        def block_until_ready(self):
            waits.append(self)

    measure_latency(Result, warmup=2, runs=3)
    assert len(set(waits)) == 5
    with pytest.raises(ValueError, match="warmup 0"):
        measure_latency(lambda: None, warmup=0, runs=3)


@pytest.mark.parametrize(
    ("seconds", "warmup", "runs", "calls", "timed"),
    [
        (0.001, 50, 200, 250, 200),  # quick: all that is asked for
        (1.0, 50, 200, 21, 15),  # the call that compiles, 5 of the warm-up, 15 of the rest of 20 s
        (6.0, 50, 200, 7, 5),  # five, since they fit into 60 s
        (25.0, 50, 200, 4, 2),  # a minute is over
        (600.0, 50, 200, 3, 1),
        (6.0, 1, 2, 3, 2),
    ],
)
def test_measuring_is_bounded_in_time(monkeypatch, seconds, warmup, runs, calls, timed):
    clock, made = [0.0], []

    def function():
        made.append(clock[0])
        clock[0] += seconds if len(made) > 1 else 1000.0  # compiling counts nowhere

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    latency = measure_latency(function, warmup=warmup, runs=runs)
    assert (len(made), latency.runs) == (calls, timed)
    assert latency.median_s == pytest.approx(seconds)
    assert clock[0] - 1000 <= max(60 + seconds, 2 * seconds)


def test_cost_record():
    cost = Cost(
        parameters=10, macs=Macs(600, 60), outputs=3, latencies={4: Latency(0.5, 0.25, 1.0, 7)}
    )
    record = cost.as_dict()
    assert cost.outputs_per_second(4) == record["outputs_per_second_batch4"] == 4 * 3 / 0.5
    assert record["flops_linear_per_example"] == 1200
    assert record["flops_total_per_example"] == 1320
    assert record["macs_linear_per_output"] == 200
    assert record["flops_attention_per_output"] == 40
    assert record["latency_batch4"] == {
        "median_s": 0.5,
        "lowest_s": 0.25,
        "highest_s": 1.0,
        "runs": 7,
    }


# docs/methods/lifting.md#cost and docs/methods/scjd.md#student: (network frames, width, depth),
# output frames -> what the tables print.
# Where a printed figure is the exact one rounded twice, the exact one stands here, rounded once:
# parameters of S-M (4,244,995, printed 4.25 M) and of S-S at 27 frames (2,124,547, printed 2.13 M),
# FLOPs per frame of S-M (47.54995 M, 47.6).
TEACHER = (243, 512, 8)
TABLE = {
    "teacher 243": (TEACHER, 243, "33.78", "277.25", "294.8", "1140.9", "1.0"),
    "teacher 81": ((81, 512, 8), 81, "33.70", "92.42", "94.6", "1140.9", "1.0"),
    "teacher 27": ((27, 512, 8), 27, "33.67", "30.81", "31.1", "1140.9", "1.0"),
    "S-full": ((81, 512, 8), 243, "33.70", "92.4", None, "380", "3.0"),
    "S-B": ((81, 256, 8), 243, "8.46", "23.1", None, "95.1", "12"),
    "S-M": ((81, 256, 4), 243, "4.24", "11.6", None, "47.5", "24"),
    "S-S": ((81, 128, 8), 243, "2.13", "5.78", None, "23.8", "48"),
    "S-XS": ((81, 128, 4), 243, "1.07", "2.89", None, "11.9", "96"),
    "S-B r9": ((27, 256, 8), 243, "8.45", "7.70", None, "31.7", "36"),
    "S-B 27": ((9, 256, 8), 27, "8.44", "2.57", None, "95.1", "12"),
    "S-S 27": ((9, 128, 8), 27, "2.12", "0.642", None, "23.8", "48"),
}


@pytest.fixture(scope="module")
def mixste_cost():
    """(network frames, width, depth) -> its cost for one window, by tracing alone.

    Each network is traced once.
    """
    known = {}

    def cost(frames: int, width: int, depth: int) -> Cost:
        if (frames, width, depth) not in known:
            network = MixSTE(
                joints=17,
                frames=frames,
                width=width,
                depth=depth,
                heads=8,
                mlp_ratio=2.0,
                drop_path=0.1,
            )
            window = abstract(1, frames, 17, 2)
            variables = shapes_of(network, window)
            macs = count_macs(
                lambda variables, window: network.apply(variables, window)[0], variables, window
            )
            known[frames, width, depth] = Cost(count_parameters(variables), macs, frames, {})
        return known[frames, width, depth]

    return cost


def printed(value: float, like: str) -> str:
    """A figure with as many decimals as `like` has."""
    return f"{value:.{len(like.partition('.')[2])}f}"


@pytest.mark.parametrize("name", TABLE)
def test_published_cost_table(name, mixste_cost):
    network, output_frames, parameters, linear, total, per_frame, less = TABLE[name]
    cost = mixste_cost(*network)
    record = Cost(cost.parameters, cost.macs, output_frames, {}).as_dict()
    assert printed(record["parameters"] / 1e6, parameters) == parameters
    assert printed(record["flops_linear_per_example"] / 1e9, linear) == linear
    if total is not None:
        assert printed(record["flops_total_per_example"] / 1e9, total) == total
    assert printed(record["flops_linear_per_output"] / 1e6, per_frame) == per_frame
    teacher = mixste_cost(*TEACHER).as_dict()
    assert (
        printed(teacher["flops_linear_per_output"] / record["flops_linear_per_output"], less)
        == less
    )


def test_teacher_parameters_exactly(mixste_cost):
    assert mixste_cost(*TEACHER).parameters == 33_783_811


@pytest.mark.parametrize("network", [(81, 256, 4), (9, 128, 8)])
def test_counts_follow_the_closed_form(network, mixste_cost):
    """Parameters, and 8 C^2 multiply-adds per token and block beside embedding and head.

    See docs/methods/lifting.md#cost.
    """
    frames, width, depth = network
    cost = mixste_cost(*network)
    blocks = 2 * depth * (8 * width**2 + 11 * width)
    assert (
        cost.parameters
        == blocks + 3 * width + (17 + frames) * width + 4 * width + 2 * width + 3 * width + 3
    )
    tokens = 17 * frames
    assert cost.macs.linear == tokens * (2 * depth * 8 * width**2 + 2 * width + 3 * width)
    assert cost.macs.attention == depth * 2 * tokens * (17 + frames) * width
