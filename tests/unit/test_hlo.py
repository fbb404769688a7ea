"""Reading compiled programs, from texts written by hand and from programs whose cost is known."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import hlo

TPU = """HloModule jit_step, is_scheduled=true

%fused (param_0: f32[8,128]) -> f32[8,128] {
  %param_0 = f32[8,128]{1,0} parameter(0)
  ROOT %transpose.9 = f32[8,128]{1,0} transpose(%param_0), dimensions={0,1}
}

%body (carry: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %carry = (s32[], f32[8,128]{1,0:T(8,128)}) parameter(0)
  %copy.3 = f32[8,128]{0,1:T(8,128)} copy(%carry), metadata={op_name="jit(step)/jvp(A)/norm/add"}, \
backend_config={"window_config":{"estimated_cycles":"100"}}
  ROOT %all-reduce-start = f32[8,128]{1,0} all-reduce-start(%copy.3), to_apply=%sum
}

ENTRY %main (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  %fusion.1 = bf16[68,243,3,8,64]{1,4,3,0,2:T(8,128)(2,1)} fusion(%p), kind=kLoop, calls=%fused, \
metadata={op_name="jit(step)/transpose(jvp(MixSTE))/spatial_block_1/attention/add_any"}, \
backend_config={"window_config":{"estimated_cycles":"7"}}
  %while.1 = (s32[], f32[8,128]{1,0}) while(%p), condition=%c, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  ROOT %negate = f32[] negate(%p), metadata={op_name="jit(step)/neg"}, \
backend_config={"estimated_cycles":"2"}
}
"""


def test_cycles_go_by_kind_and_a_body_counts_as_often_as_it_runs():
    program = hlo.parse(TPU)
    assert program.cycles_by_kind() == {"copies": 500, "spatial attention": 7, "optimiser": 2}
    assert program.counts["copy"] == 5 and program.counts["fusion"] == 1
    assert program.counts["transpose"] == 0  # what a fusion does inside moves nothing of its own
    assert program.loop_factor == pytest.approx(509 / 109)


def test_collectives_have_their_number_and_bytes():
    assert hlo.parse(TPU).collectives() == {"all-reduce": (5, 5 * 8 * 128 * 4)}


def test_largest_array():
    assert hlo.parse(TPU).largest_array() == 68 * 243 * 3 * 8 * 64 * 2


@pytest.mark.parametrize(
    "shape, size",
    [("f32[]", 4), ("(f32[8,2]{1,0}, pred[3])", 67), ("s4[8]", 4), ("token[]", 0), ("()", 0)],
)
def test_bytes_of_types(shape, size):
    assert hlo.shape_bytes(shape) == size


def test_a_compiled_loop_on_this_machine():
    """A product of 64x64 matrices, three times in a loop, however the compiler executes it."""

    def loop(matrix):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ matrix), None), matrix, length=3)[0]

    compiled = jax.jit(loop).lower(jax.ShapeDtypeStruct((64, 64), jnp.float32)).compile()
    program = hlo.parse(compiled.as_text())
    products = [times for one, times in program.executed if one.path.endswith("/dot_general")]
    assert products == [3]
    assert program.largest_array() == 64 * 64 * 4
