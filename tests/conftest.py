"""Sets up the whole suite before JAX starts.

There are 8 fake CPU devices and strict array semantics.
"""

import atexit
import ctypes
import gc
import os
import shutil
import sys
import tempfile

# The processes of pytest-xdist and of tests share compiled programs.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="kdpose_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# Most of the suite's time is compiling, and these options make it a quarter of what it is with
# the options that users have. They change how elementwise loops become machine code, and nothing
# about which operations a program has.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
# TensorFlow reads it when it is loaded; the default is one second.
os.environ["GCS_RETRY_CONFIG_INIT_DELAY_TIME_US"] = "10000"

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402
from xdist.scheduler import LoadFileScheduling  # noqa: E402

# Each call checks all annotated shapes in networks and methods.
jaxtyping.install_import_hook(
    ["kdpose_jax.models", "kdpose_jax.tasks", "kdpose_jax.methods"], "beartype.beartype"
)

# Tracing makes many objects that stay. By default Python would look through them again and again.
gc.set_threshold(100_000, 20, 100)

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_default_matmul_precision", "highest")


class Scheduler(LoadFileScheduling):
    """Gives a process one file at a time, and the contracts of presets and methods together.

    Both need the first steps of the same runs, which one process takes once.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return "contract" if file.endswith(("test_configs.py", "test_methods.py")) else file


def pytest_xdist_make_scheduler(config, log):
    """Replaces the scheduler of pytest-xdist."""
    return Scheduler(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Checks shapes in the contract tests, which go through every preset, and nowhere else.

    The checks are a tenth of the time to trace.
    """
    jaxtyping.config.update("jaxtyping_disable", item.path.parent.name != "contract")


@pytest.fixture(scope="module", autouse=True)
def forget_compiled_programs(request):
    """Frees what a test file has compiled, so that each process stays below 3 GB."""
    yield
    for value in vars(request.module).values():
        if callable(getattr(value, "cache_clear", None)):
            value.cache_clear()
    jax.clear_caches()
    gc.collect()
    gc.freeze()  # what is left are modules: later collections need not go through them
    if sys.platform == "linux":  # otherwise glibc keeps freed memory
        ctypes.CDLL("libc.so.6").malloc_trim(0)
