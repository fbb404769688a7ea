"""The page on servers: its folders, its request and its client, beside the network.

The servers themselves are stood in for, by TensorFlow and ONNX Runtime behind their protocols.
"""

import http.server
import json
import re
import subprocess
import threading

import numpy as np
import pytest
import stored_networks
from made_input import motion
from repository import REPOSITORY

import kdpose_jax
from kdpose_jax.errors import UserError
from kdpose_jax.export import pipeline
from kdpose_jax.export.formats import table

PAGE = (REPOSITORY / "docs" / "use" / "serve.md").read_text()
SIZE = 1280, 720


def blocks(language):
    """The page's blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(network, folder in which the page's commands were run)."""
    try:
        table.require_packages("onnx", to_write=True)
    except UserError as missing:
        pytest.skip(str(missing))
    top = tmp_path_factory.mktemp("served")
    run = stored_networks.store_preset(top / "student", "scjd", "demo", "student")
    pipeline.export_and_report(None, run, "saved_model,onnx", str(top / "shipped"), "", print)
    for command in blocks("sh"):
        if command.startswith("mkdir"):
            subprocess.run(["bash", "-ec", command], cwd=top, check=True)
    return kdpose_jax.load(run), top


@pytest.fixture(scope="module")
def client(served):
    """The names of the page's client, for a network of this many frames."""
    names = {}
    [code] = blocks("python")
    exec(compile(code, "serve.md", "exec"), names)
    assert names["JOINTS"] == 17
    names["FRAMES"] = served[0].description.window
    return names


@pytest.fixture
def server():
    """Starts a server that answers a path by a function of the request's JSON."""
    opened = []

    def start(path, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                right = self.path == path
                content = json.dumps(answer(body) if right else {}).encode()
                self.send_response(200 if right else 404)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words):
                pass

        one = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        opened.append(one)
        threading.Thread(target=one.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{one.server_address[1]}"

    yield start
    for one in opened:
        one.shutdown()
        one.server_close()


def pixels(frames):
    """Keypoints of a video, pixels."""
    return (motion(frames, seed=frames).astype(float) + [1, SIZE[1] / SIZE[0]]) * SIZE[0] / 2


def compare(client, network, ask):
    for frames in (1, network.description.window, 2 * network.description.window + 5):
        found = client["lift"](pixels(frames), *SIZE, ask)
        wanted = network(pixels(frames), size=SIZE)
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-4)


def test_tensorflow_serving(served, client, server):
    import tensorflow as tf

    network, top = served
    call = tf.saved_model.load(str(top / "served" / "student" / "1")).signatures["serving_default"]
    assert list(call.structured_input_signature[1]) == ["keypoints_2d"]

    def answer(body):  # a signature of one output gives its values without a name
        given = tf.constant(body["instances"], tf.float32)
        [pose] = call(keypoints_2d=given).values()
        return {"predictions": pose.numpy().tolist()}

    address = server("/v1/models/student:predict", answer)
    compare(client, network, lambda windows: client["ask_tensorflow_serving"](windows, address))


def test_triton(served, client, server):
    import onnxruntime

    network, top = served
    session = onnxruntime.InferenceSession(str(top / "models" / "student" / "1" / "model.onnx"))

    def answer(body):
        [given] = body["inputs"]
        assert given["datatype"] == "FP32"
        values = np.array(given["data"], np.float32).reshape(given["shape"])
        [pose] = session.run(["pose_3d"], {given["name"]: values})
        output = {"name": "pose_3d", "datatype": "FP32", "shape": list(pose.shape)}
        return {"outputs": [output | {"data": pose.ravel().tolist()}]}

    address = server("/v2/models/student/infer", answer)
    compare(client, network, lambda windows: client["ask_triton"](windows, address))


def test_the_config_is_the_files(served):
    """The names and the axes behind the batch, but for the number of frames."""
    import onnx

    [config] = blocks("proto")
    found = re.findall(r'name: "(\w+)" data_type: (\w+) dims: \[ (.*?) \]', config)
    graph = onnx.load(str(served[1] / "models" / "student" / "1" / "model.onnx"))
    wanted = []
    for one in (*graph.graph.input, *graph.graph.output):
        kind = one.type.tensor_type
        assert kind.shape.dim[0].dim_param  # any batch
        dims = [27, *(axis.dim_value for axis in kind.shape.dim[2:])]
        assert kind.elem_type == onnx.TensorProto.FLOAT
        wanted.append((one.name, "TYPE_FP32", ", ".join(map(str, dims))))
    assert found == wanted
    [opset] = [entry.version for entry in graph.opset_import if entry.domain == ""]
    assert f"operator set {opset}:" in PAGE
