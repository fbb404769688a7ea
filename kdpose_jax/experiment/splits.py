"""Says which splits of the records train networks, and which one chooses their checkpoints.

The test split is scored in either case, once a network is trained.
"""

from typing import Any

from ml_collections import ConfigDict

from kdpose_jax.data import schema
from kdpose_jax.errors import UserError

# Networks train on `train`, and the best checkpoint is chosen on `val`.
VALIDATION = "validation"
# Networks train on `train` and `val`, and the best checkpoint is chosen on `test`, as in papers.
PUBLISHED = "published"
SELECTIONS = (VALIDATION, PUBLISHED)
ON_TEST = "the test split, as published"


def training_splits(config: ConfigDict, metadata: dict[str, Any]) -> tuple[str, ...]:
    """Names the splits that a network is trained on.

    Args:
      config: reads `data.selection`.
      metadata: the data set's metadata. Records of older versions have no split `val`.
    """
    together = config.data.selection == PUBLISHED and schema.VAL_SPLIT in metadata["splits"]
    return ("train", schema.VAL_SPLIT) if together else ("train",)


def selection_split(config: ConfigDict) -> str:
    """Names the split on which the best checkpoint is chosen; reads `data.selection`."""
    return "test" if config.data.selection == PUBLISHED else schema.VAL_SPLIT


def require_selection(config: ConfigDict, metadata: dict[str, Any], records: str) -> None:
    """Refuses to train on records that lack the split on which checkpoints are to be chosen.

    Raises:
      UserError: there is no such split.
    """
    if selection_split(config) not in metadata["splits"]:
        raise UserError(
            f"'{records}' has no split '{schema.VAL_SPLIT}', on which data.selection "
            f"'{config.data.selection}' chooses checkpoints: convert the raw files again with this "
            "version into a new folder, where they have two training subjects or more, or choose "
            f"on the test split with --config.data.selection={PUBLISHED}."
        )


def chosen_on(config: ConfigDict, metadata: dict[str, Any]) -> str:
    """Says in words on which examples the best checkpoint is chosen."""
    if selection_split(config) == "test":
        return ON_TEST
    split = metadata["splits"][schema.VAL_SPLIT]
    contents = schema.contents_of(split)
    return f"the validation split ({contents})" if "rule" in split else f"the validation {contents}"
