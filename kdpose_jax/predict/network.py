"""What every loaded network says of itself."""

from kdpose_jax.predict.description import Description
from kdpose_jax.skeletons import Skeleton


class DescribedNetwork:
    """A network with its description.

    Attributes:
      description: what the network reads and returns.
      notes: sentences on how it was found, such as what its file does not say.
    """

    def __init__(self, description: Description, notes: tuple[str, ...]):
        self.description, self.notes = description, notes

    @property
    def kind(self) -> str:
        """`lifter` or `pictures`."""
        return self.description.kind

    @property
    def skeleton(self) -> Skeleton:
        """The joints' layout."""
        return self.description.layout

    @property
    def joints(self) -> tuple[str, ...]:
        """The names of the J joints, in the order of arrays."""
        return self.skeleton.joints

    @property
    def parents(self) -> tuple[int, ...]:
        """The parent of each joint, -1 for the root."""
        return self.skeleton.parents

    @property
    def frames(self) -> int:
        """The number of frames that one prediction depends on; 1 for pictures."""
        return self.description.frames

    @property
    def fingerprint(self) -> str:
        """Identifies the network's variables by their values."""
        return self.description.fingerprint
