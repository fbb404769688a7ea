"""Runs SCJD on one tiny batch with random networks, for fixtures in tests/unit/conftest.py."""

import functools

import jax
import numpy as np
from tiny import built_on, example_batch, shrink

from configs import scjd as config_file
from kdpose_jax.methods.scjd import terms
from kdpose_jax.skeletons import H36M_17
from kdpose_jax.tasks import sparse_lifting

KEY = jax.random.key(11)
J, FLIP = 17, H36M_17.flip_permutation
ONLY = {
    name: {
        f"distill__weights__{other}": float(other == name)
        for other in ("embedding", "attention", "temporal")
    }
    for name in ("embedding", "attention", "temporal")
}


def config_with(**changes):
    """Makes the tiny experiment's config with some changes.

    It has 9 frames and r = 3, a student with 2 layers and width 8, and a teacher with 3 layers and
    width 16.
    """
    config = shrink(config_file.get_config("demo"))
    config.student.network.depth, config.teacher.network.depth = 2, 3
    config.student.network.drop_path = config.teacher.network.drop_path = 0.0
    config.student.input.phase_augmentation = False
    config.update_from_flattened_dict(
        {name.replace("__", "."): value for name, value in changes.items()}
    )
    return config


def build(**changes):
    config = config_with(**changes)
    return built_on(config, 64)


class Scene:
    """Holds one batch with random networks, and what student and teacher give on it, numpy."""

    def __init__(self, **changes):
        self.changes = changes
        self.method, self.config = build(**changes)
        self.batch = example_batch(self.config, seed=3)
        self.student = sparse_lifting.build_student(self.config, "student", H36M_17, training=True)
        self.distillation = terms.build_distillation(self.config, H36M_17)
        generator = np.random.default_rng(4)

        def drawn(path, leaf):  # norms are about one, everything else about zero
            return (0.3 * generator.normal(size=leaf.shape) + ("scale" in str(path[-1]))).astype(
                np.float32
            )

        params, _, frozen = jax.tree.map_with_path(
            drawn, jax.eval_shape(self.method.init, KEY, self.batch)
        )
        self.params, self.frozen = params, frozen
        points = self.batch["keypoints_2d"]

        def teach(frozen):
            variables = {"params": frozen["teacher"]["params"]}
            return self.distillation.live.teacher.apply(variables, points)

        run = jax.jit(lambda params, frozen: (self.lift(params), teach(frozen)))
        outputs = jax.tree.map(np.asarray, run(params, frozen))
        (self.predicted, features), (self.pose, self.taught) = outputs
        self.predict = jax.jit(self.method.predict)
        self.keyframes, self.network = features["keyframes"], features["network"]
        self.features = features

    def lift(self, params):
        """Computes the student's pose and features, in training form."""
        return self.student.apply({"params": params["student"]}, self.batch["keypoints_2d"])

    def terms(self, **changes):
        """Computes the requested terms by our code, `[B]` each."""
        compute = compiled_terms(tuple(sorted({**self.changes, **changes}.items())))
        return compute(self.params, self.frozen, self.batch, self.predicted, self.features)


@functools.cache
def compiled_terms(changes):
    distillation = terms.build_distillation(config_with(**dict(changes)), H36M_17)
    return jax.jit(functools.partial(terms.distillation_terms, distillation))


def sparse_scene():
    """Makes a scene with r = 3 and a student narrower and shallower than its teacher."""
    return Scene()


def dense_scene():
    """Makes a scene with r = 1 and a student of its teacher's size, with other parameters."""
    return Scene(student__input__stride=1, student__network__width=16, student__network__depth=3)


def alpha_oracle(embeddings, keyframes, context, reach):
    frames = embeddings.shape[1]
    alpha = np.zeros((*embeddings.shape[:1], len(keyframes), J, frames))  # over all frames
    unit = embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True)
    for k, middle in enumerate(keyframes):
        near = slice(max(0, middle - reach), middle + reach + 1)
        cosine = (unit[:, middle, None] * unit[:, near]).sum(-1)  # [B, N, J]
        score = {"dynamic": np.exp(cosine / 0.1), "mean": np.ones_like(cosine)}[context]
        alpha[:, k, :, near] = (score / score.sum(1, keepdims=True)).transpose(0, 2, 1)
    return alpha


def normed(values):
    centred = values - values.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)


def correlation_oracle(student, teacher):
    """Computes the mean squared difference of motion correlations by loops, `[B]`."""
    batch, frames, joints, _ = student.shape
    total = np.zeros(batch)
    for b, j in np.ndindex(batch, joints):
        for t, other in np.ndindex(frames, frames):
            gamma = []
            for pose in (student, teacher):
                path = pose[b, :, j] - pose[b, :, j].sum(0) / frames
                lengths = [np.sqrt(path[n] @ path[n] + 0.01**2) for n in (t, other)]
                gamma.append(path[t] @ path[other] / (lengths[0] * lengths[1]))
            total[b] += (gamma[0] - gamma[1]) ** 2
    return total / (joints * frames * frames)
