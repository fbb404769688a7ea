"""Names everything in a work directory.

One object stands for an experiment, and one for each of its networks. Imports nothing of the
package.
"""

import dataclasses

from etils import epath

# Folders for the steps of the plan, and for the step at which a run was told to stop.
CHECKPOINTS, INTERRUPTED = "checkpoints", "interrupted"


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of one network.

    Attributes:
      path: the folder.
    """

    path: epath.Path

    @property
    def checkpoints(self) -> epath.Path:
        """The steps at which the plan saves."""
        return self.path / CHECKPOINTS

    @property
    def interrupted(self) -> epath.Path:
        """The step at which the run was told to stop."""
        return self.path / INTERRUPTED

    @property
    def metrics(self) -> epath.Path:
        """Losses, rates and scores, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> epath.Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    @property
    def examples(self) -> epath.Path:
        """The numbers of the examples of every step, if they are logged."""
        return self.path / "examples.jsonl"

    @property
    def gradients(self) -> epath.Path:
        """How strongly each term of the loss pulls, at the start and at the end."""
        return self.path / "gradients.json"

    @property
    def evaluation(self) -> epath.Path:
        """Scores and costs, with the question that they answer."""
        return self.path / "evaluation.json"

    @property
    def extremes(self) -> epath.Path:
        """The test examples with the best and the worst scores, for the page."""
        return self.path / "extremes.json"


@dataclasses.dataclass(frozen=True)
class WorkFolder:
    """The folder of an experiment, or of an evaluation.

    Attributes:
      path: the folder.
    """

    path: epath.Path

    @property
    def config(self) -> epath.Path:
        """The resolved config."""
        return self.path / "config.json"

    @property
    def data_identity(self) -> epath.Path:
        """The file that says which data the run was begun with."""
        return self.path / "data.json"

    @property
    def records(self) -> epath.Path:
        """Records that the run made itself."""
        return self.path / "data"

    @property
    def taught_poses(self) -> epath.Path:
        """What the teachers predict in every training frame."""
        return self.path / "taught_poses.npy"

    @property
    def taught_poses_origin(self) -> epath.Path:
        """The file that says whose predictions these are, and on which data."""
        return self.path / "taught_poses.json"

    @property
    def results(self) -> epath.Path:
        """All scores, costs and the fingerprint; written last."""
        return self.path / "results.json"

    @property
    def table(self) -> epath.Path:
        """The results for people to read."""
        return self.path / "results.md"

    @property
    def figures(self) -> epath.Path:
        """Pictures."""
        return self.path / "figures"

    @property
    def page(self) -> epath.Path:
        """The results to look at in a browser."""
        return self.path / "results.html"

    @property
    def compiled(self) -> epath.Path:
        """Compiled programs, in a folder for each user and place."""
        return self.path / "compiled"

    @property
    def evaluation(self) -> "WorkFolder":
        """The folder that `--mode eval` writes into."""
        return WorkFolder(self.path / "eval")

    def run(self, name: str) -> RunFolder:
        """Returns the folder of one of the experiment's networks."""
        return RunFolder(self.path / name)
