"""Exported files: each format in its own runtime beside the network, and what lies beside them."""

import functools
import importlib.util
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import stored_networks
from jax import export as jax_export
from launching import launch_main
from made_input import motion, picture

import kdpose_jax
from kdpose_jax.errors import UserError
from kdpose_jax.export import card, checking, examples, pipeline
from kdpose_jax.export.formats import table
from kdpose_jax.export.formats.signature import Signature
from kdpose_jax.export.plain import plainly
from kdpose_jax.predict import artifacts, description
from kdpose_jax.skeletons import H36M_17

J = 17
PRESETS = {
    "sparse": ("scjd", "demo", "student"),
    "poseformer": ("lifters", "poseformer_v2", "student"),
    "videopose": ("lifters", "videopose3d", "student"),
    "pictures": ("cdkd", "demo", "student"),
}
METRES, PIXELS = 1e-4, 0.05
# SavedModel holds StableHLO, so one network tells whether it is written right.
OTHERS = [
    ("sparse", "saved_model"),
    *(("sparse", form) for form in table.FORMATS if form not in ("stablehlo", "saved_model")),
    *(("pictures", form) for form in table.FORMATS if form not in ("stablehlo", "saved_model")),
    ("poseformer", "onnx"),
    ("poseformer", "litert"),
]


def skip_without(form):
    """Skips a test where the packages that write a format are absent."""
    try:
        table.require_packages(form, to_write=True)
    except UserError as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(network, format) -> the exported file; written when it is first asked for."""
    top = tmp_path_factory.mktemp("exports")
    runs, written = {}, {}

    def file(name, form="stablehlo"):
        if name not in runs:
            runs[name] = stored_networks.store_preset(top / name, *PRESETS[name])
        if (name, form) not in written:
            out = top / f"{name} exported"
            # jax2onnx broadcasts, which the suite's strict semantics refuse.
            with jax.numpy_rank_promotion("allow"):
                pipeline.export_and_report(None, runs[name], form, str(out), "", print)
            written[name, form] = out / f"{name}{table.FORMATS[form].suffix}"
        return written[name, form]

    file.runs = runs
    return file


@pytest.fixture(scope="module")
def networks(exported):
    """The name of a network -> the network itself, computed by JAX."""

    @functools.cache
    def network(name):
        exported(name)
        return kdpose_jax.load(exported.runs[name])

    return network


@pytest.mark.parametrize("name", ["sparse", "poseformer", "videopose"])
def test_stablehlo_lifts_videos_of_any_length_without_this_program(name, exported, networks):
    """The file alone, called as the card says: frames at the ends are repeated."""
    about = networks(name).description
    call = jax_export.deserialize(bytearray(exported(name).read_bytes())).call
    for videos, frames in ((2, 20), (1, 1)) if name == "sparse" else ((2, 20),):
        points = motion(frames, seed=frames, videos=videos)
        edges = [(0, 0), (about.before, about.after), (0, 0), (0, 0)]
        found = call(keypoints_2d=np.pad(points, edges, mode="edge"))["pose_3d"]
        wanted = networks(name)(points)
        scale = max(1.0, np.abs(wanted).max())  # random networks predict several metres
        assert np.abs(np.asarray(found) - wanted).max() < METRES * scale / 10
        assert found.shape == (videos, frames, J, 3)


@pytest.mark.parametrize("name", ["sparse", "pictures"])
def test_stablehlo_is_for_all_platforms_and_calls_nothing_outside(name, exported):
    found = jax_export.deserialize(bytearray(exported(name).read_bytes()))
    assert set(found.platforms) == {"cpu", "cuda", "tpu"}
    targets = set(re.findall(r"custom_call @(\w+)", found.mlir_module()))
    assert targets <= {"shape_assertion"}  # jax's checks of symbolic sizes
    assert "composite" not in found.mlir_module()  # other readers may not know it


def test_an_exported_network_is_loaded_like_the_checkpoint(exported, networks):
    loaded, network = kdpose_jax.load(exported("sparse")), networks("sparse")
    video = motion(25, seed=1)
    np.testing.assert_allclose(loaded(video), network(video), rtol=1e-4, atol=METRES)
    np.testing.assert_allclose(
        loaded(video, flip=True), network(video, flip=True), rtol=1e-4, atol=METRES
    )
    assert loaded.fingerprint == network.fingerprint and loaded.joints == network.joints
    assert loaded.description == network.description
    pictures = kdpose_jax.load(exported("pictures"))
    crops = np.stack([picture(32, 32, seed) for seed in range(3)])
    np.testing.assert_allclose(
        pictures(crops).joints, networks("pictures")(crops).joints, atol=PIXELS
    )
    with pytest.raises(UserError, match="flip is True, and 'pictures' is an exported network"):
        pictures(crops, flip=True)


@pytest.mark.parametrize("name", ["sparse", "pictures"])
def test_only_layers_with_weights_compute_in_int8(name, exported):
    skip_without("litert_int8")
    from ai_edge_litert.interpreter import Interpreter

    opened = Interpreter(str(exported(name, "litert_int8")))
    kinds = {one["index"]: one["dtype"] for one in opened.get_tensor_details()}
    in_int8 = {
        one["op_name"]
        for one in opened._get_ops_details()
        if np.int8 in [kinds.get(tensor) for tensor in one["outputs"]]
    }
    layers = {"FULLY_CONNECTED"} if name == "sparse" else {"FULLY_CONNECTED", "CONV_2D"}
    assert in_int8 == layers | {"QUANTIZE"}
    for end in (*opened.get_input_details(), *opened.get_output_details()):
        assert end["dtype"] == np.float32


@pytest.mark.parametrize(("name", "form"), OTHERS)
def test_other_formats_agree_in_their_own_runtimes(name, form, exported, networks):
    skip_without(form)
    network, loaded = networks(name), kdpose_jax.load(exported(name, form))
    if name == "pictures":
        crops = np.stack([picture(32, 32, seed) for seed in range(9)])
        apart = np.abs(loaded(crops).joints - network(crops).joints)
        allowed = PIXELS if table.FORMATS[form].is_float32 else 32
    else:
        video = motion(31, seed=3)
        wanted = network(video)
        apart = np.abs(loaded(video) - wanted)
        scale = np.abs(wanted).max()
        allowed = METRES * max(1.0, scale / 10) if table.FORMATS[form].is_float32 else scale / 5
    assert apart.max() < allowed


@pytest.mark.parametrize("name", ["sparse", "poseformer"])
def test_onnx_is_for_quantisers_and_has_no_transform(name, exported):
    """Linear layers are MatMul, the cosine transform is not an FFT, and the batch is symbolic."""
    skip_without("onnx")
    import onnx

    model = onnx.load(exported(name, "onnx"))
    kinds = {node.op_type for node in model.graph.node}
    assert {"MatMul"} <= kinds and not {"DFT", "STFT"} & kinds
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "B"
    assert model.graph.input[0].name == "keypoints_2d"
    assert [output.name for output in model.graph.output] == ["pose_3d"]


def primitives(function, *arguments):
    """The names of all primitives in a traced function, also of those in inner programs."""
    found, waiting = set(), [jax.make_jaxpr(function)(*arguments).jaxpr]
    while waiting:
        for equation in waiting.pop().eqns:
            found.add(equation.primitive.name)
            for value in equation.params.values():
                parts = value if isinstance(value, tuple | list) else [value]
                for part in parts:
                    inner = getattr(part, "jaxpr", part)
                    if hasattr(inner, "eqns"):
                        waiting.append(inner)
    return found


def test_a_function_is_written_plainly():
    """Forms, gradients of their own, barriers and loops go; constants are computed; the values
    stay.
    """
    weight = np.random.default_rng(0).normal(size=(3, 4, 4)).astype(np.float32)

    @jax.custom_vjp
    def doubled(x):
        return x * 2

    doubled.defvjp(lambda x: (x * 2, None), lambda _, gradient: (gradient * 2,))

    @jax.jit
    def special(x):
        return jnp.tanh(x)

    def network(x):
        x = jax.lax.platform_dependent(x, cpu=lambda y: y + 1e9, default=doubled)
        scale = jnp.sin(jnp.arange(4, dtype=jnp.float32))  # depends on nothing
        x, each = jax.lax.scan(lambda x, w: (x @ w, x.sum(-1)), x, jnp.asarray(weight))
        back, _ = jax.lax.scan(lambda x, w: (x @ w, None), x, jnp.asarray(weight), reverse=True)
        return special(jax.lax.optimization_barrier(back) * scale.reshape(1, 4)), each

    x = np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32) * 0.1
    wanted = 2 * x
    sums = []
    for one in weight:
        sums.append(wanted.sum(-1))
        wanted = wanted @ one
    for one in weight[::-1]:
        wanted = wanted @ one
    wanted = np.tanh(wanted * np.sin(np.arange(4)))
    found, each = jax.jit(plainly(network, {}))(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(each, np.stack(sums), rtol=1e-5)
    rewritten = primitives(plainly(network, {}), x)
    assert not rewritten & {
        "cond", "platform_index", "custom_vjp_call", "scan", "optimization_barrier", "iota", "sin"
    }  # fmt: skip
    assert {"scan", "iota", "optimization_barrier"} <= primitives(network, x)
    replaced, _ = plainly(network, {"special": lambda values: values * 0 + 7})(x)
    assert (np.asarray(replaced) == 7).all()


def test_what_lies_beside_an_exported_network(exported, networks):
    file, about = exported("sparse"), networks("sparse").description
    found = json.loads(file.with_name("sparse.json").read_text())
    assert found["joints"] == list(H36M_17.joints) and found["parents"] == list(H36M_17.parents)
    assert found["network"]["fingerprint"] == about.fingerprint
    assert found["input"]["shape"] == ["batch", 9, J, 2]
    assert found["outputs"][0]["shape"] == ["batch", 9, J, 3]
    assert "frames 1, 4, 7, ... of its window of 9, one in 3" in found["keyframes"]
    entry = found["artifacts"]["sparse.stablehlo"]
    assert entry["bytes"] == file.stat().st_size and entry["milliseconds"] > 0
    assert entry["largest_difference"] < METRES and entry["score"] is None
    assert found["speed"]["network"]["milliseconds"] > 0
    assert "64 random examples (seed 0), as no records are at hand" in found["speed"]["words"]
    assert found["macs_per_example"]["linear"] > found["parameters"] > 1000
    assert found["licence"] and found["versions"]["jax"] == jax.__version__
    # Nothing of where the files of this machine are.
    assert str(file.parent.parent) not in file.with_name("sparse.json").read_text()
    text = file.with_name("sparse.md").read_text()
    for said in (about.fingerprint, "right_hip", "screen units", 'load("sparse.stablehlo")'):
        assert said in text, said


@pytest.mark.parametrize("name", ["sparse", "videopose", "pictures"])
def test_the_lines_of_the_card_run(name, exported, networks, monkeypatch):
    file = exported(name)
    monkeypatch.chdir(file.parent)
    text = file.with_name(f"{name}.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 2
    written = [path for path in file.parent.iterdir() if path.suffix not in (".json", ".md")]
    place = np.random.default_rng(0).uniform(100, 900, size=(1, J, 2))
    given = {
        "keypoints_2d": place + 0 * motion(20),
        "picture": picture(60, 60),
        "crop": picture(32, 32),
        "boxes": [[1, 2, 40, 50]],
    }
    for block in blocks:
        assert len(block.splitlines()) <= 10
        frames = 20 if "deserialize" in block else 9  # other formats take one window
        given["pixels"] = place + 100 * motion(frames)
        exec(block, given)  # our own text
        if "kdpose_jax" not in block and name != "pictures":
            wanted = networks(name)(given["pixels"], size=(1920, 1080))
            outputs = given.pop("outputs") if "outputs" in given else {}
            found = np.asarray(outputs["pose_3d"] if outputs else given["pose_3d"])[0]
            (called,) = {path for path in written if f'"{path.name}"' in block}
            # As far as the format's own test allows.
            is_float32 = table.FORMATS[table.format_of(called)].is_float32
            near = 1e-4 if is_float32 else np.abs(wanted).max() / 5
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=near)


def test_exports_of_one_network_share_a_folder_and_others_are_refused(exported, tmp_path):
    file = exported("sparse")
    sidecar = file.with_name("sparse.json")
    about = artifacts.read_sidecar(sidecar)[1]
    assert file.name in pipeline.kept_artifacts(sidecar, about)
    for out, said in (("model.onnx", "a file's name"), (__file__, "is a file: name a folder")):
        with pytest.raises(UserError, match=said):
            pipeline.export_and_report(None, exported.runs["sparse"], "stablehlo", out, "", print)
    other = stored_networks.store_preset(tmp_path / "sparse", *PRESETS["sparse"], seed=1)
    with pytest.raises(UserError, match="holds exports of another network of this name"):
        pipeline.export_and_report(None, other, "stablehlo", str(file.parent), "", print)
    assert sorted(path.name for path in file.parent.iterdir() if path.name.startswith(".")) == []


def flags(*words):
    return ["--mode=export", "--checkpoint=runs/none/student", *words]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mode=export"], "--mode export needs --checkpoint"),
        (flags("--format=onxx"), "--format is 'onxx': use one of stablehlo, saved_model, onnx"),
        (flags("--format=,"), "--format names no format"),
        (flags("--workdir=x"), "--workdir goes with --mode train and eval: .*--out DIR"),
        (flags("--artifact=x.onnx"), "--artifact goes with --mode eval"),
        (flags(), "no folder or file"),
        (["--mode=export", "--checkpoint=x.stablehlo"], "is exported already"),
        (
            ["--mode=eval", "--checkpoint=x", "--format=onnx"],
            "--format goes with --mode predict and export",
        ),
        (["--mode=eval", "--checkpoint=x", "--artifact=x"], "name two networks"),
        (["--mode=eval", "--artifact=x.onnx"], "There is no '.*x.onnx': export"),
        (["--mode=eval", "--artifact=x.bin"], "must end in one of .stablehlo"),
    ],
)
def test_mistakes_on_the_command_line_are_a_sentence(words, said, capsys):
    assert launch_main(*words) == 2
    told = capsys.readouterr().err
    assert re.search(said, told) and told.count("\n") == 1, told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found | {"version": 99}, "has version 99, and this program reads 1"),
        (lambda found: found | {"kind": "x"}, "was not written by --mode export"),
        (lambda found: [], "was not written by --mode export"),
        (lambda found: found | {"network": {}}, "does not describe a network of this version"),
        (lambda found: found | {"network": 3}, "does not describe a network"),
        (
            lambda found: found | {"network": found["network"] | {"skeleton": "smpl_24"}},
            "contradicts itself",
        ),
        (
            lambda found: found | {"network": found["network"] | {"predicted": "9"}},
            r"predicted is '9'",
        ),
        (
            lambda found: found | {"network": found["network"] | {"kind": "pictures", "side": 32}},
            "another function than its .json describes",
        ),
    ],
)
def test_a_damaged_description_is_a_sentence(change, said, exported, tmp_path):
    file = exported("sparse")
    (tmp_path / file.name).write_bytes(file.read_bytes())
    found = json.loads(file.with_name("sparse.json").read_text())
    (tmp_path / "sparse.json").write_text(json.dumps(change(found)))
    with pytest.raises(UserError, match=said):
        kdpose_jax.load(tmp_path / file.name)


def test_damaged_and_lonely_files_are_a_sentence(exported, tmp_path):
    file = exported("sparse")
    alone = tmp_path / file.name
    alone.write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="keep the two together"):
        kdpose_jax.load(alone)
    (tmp_path / "sparse.json").write_bytes(file.with_name("sparse.json").read_bytes())
    for content in (b"", file.read_bytes()[:100], b"PK" * 500):
        alone.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read by jax .*: export the network again"):
            kdpose_jax.load(alone)
    (tmp_path / "sparse.json").write_text("{")
    with pytest.raises(UserError, match="sparse.json' is damaged"):
        kdpose_jax.load(alone)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    real = importlib.util.find_spec
    gone = {"jax2onnx", "litert_converter", "litert_quantizer"}
    monkeypatch.setattr(
        table.importlib.util,
        "find_spec",
        lambda name, *rest: None if name in gone else real(name, *rest),
    )
    with pytest.raises(UserError, match="onnx needs jax2onnx, .*requirements-export.txt"):
        table.require_packages("onnx", to_write=True)
    for place, said in (
        (("linux", "x86_64"), "needs litert-converter, which is not installed"),
        (("linux", "aarch64"), "has wheels for Linux on x86-64 .*, and this is linux on aarch64"),
        (("win32", "AMD64"), "this is win32 on amd64: export on such a machine"),
    ):
        monkeypatch.setattr(table.sys, "platform", place[0])
        monkeypatch.setattr(table.platform, "machine", lambda place=place: place[1])
        with pytest.raises(UserError, match=said):
            table.require_packages("litert_int8", to_write=True)


def about_lifter():
    return description.Description(
        name="n",
        kind="lifter",
        skeleton="h36m_17",
        frames=9,
        predicted=9,
        before=0,
        after=0,
        keyframe_stride=1,
        keyframe_offset=0,
        keyframe_selection="uniform",
        side=0,
        fingerprint="f",
    )


def test_a_file_that_strays_is_refused_and_a_quantised_one_is_measured():
    about = about_lifter()
    given = examples.at_random(about)

    def network(windows):
        return (np.concatenate([windows, windows[..., :1]], -1),)

    reference = network(given.compared)
    for error, form, refused in (
        (2e-4, "onnx", True),
        (5e-5, "onnx", False),
        (2e-4, "litert_int8", False),
        (np.nan, "litert_int8", True),
    ):

        def strays(windows, error=error):
            (poses,) = network(windows)
            poses[0, 0, 0, 0] += error
            return (poses,)

        measured = checking.measure(strays, reference, given, about)
        if refused:
            with pytest.raises(UserError, match=f"--format {form}: the file that was written"):
                checking.refuse_if_apart(form, measured, about)
        else:
            checking.refuse_if_apart(form, measured, about)
            assert measured["largest_difference"] == pytest.approx(error, rel=0.01)


def test_formats_are_told_apart_by_their_names():
    for name, form in table.FORMATS.items():
        assert table.format_of(pathlib.Path(f"a.b{form.suffix}")) == name
        assert artifacts.sidecar_of(pathlib.Path(f"x/a.b{form.suffix}")) == pathlib.Path(
            "x/a.b.json"
        )
    assert table.format_of(pathlib.Path("student")) is None
    assert table.names_in(" onnx,stablehlo, onnx ") == ["onnx", "stablehlo"]
    assert set(card.CALLS) == {form.module for form in table.FORMATS.values()}
    assert Signature("x", (1,), ("y",)).input_name == "x"
