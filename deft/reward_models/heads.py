"""Whether a model's folder is a reward model: a sequence classifier with one label. Torch-free.

Knows config.json and the headers of weights; loads nothing. The same is asked when a job is posted and when it runs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deft.errors import Finding, ModelNotUsable
from deft.models.files import CONFIG, read_settings

CLASSIFIER = "ForSequenceClassification"
DEFAULT_LABELS = 2
"""What transformers takes where config.json does not say."""

EVALUATION_FIX = "train one with a train_reward_model job, or register a sequence classifier with one label"


def require_reward_head(folder: Path, pointer: str) -> None:
    """Refuse a model in *folder* that gives no single reward; *pointer* is that of the field that names it.

    Raises:
        ModelNotUsable: it is no sequence classifier, or one with several labels.
    """
    config = read_settings(folder, CONFIG)
    named = [name for name in config.get("architectures") or [] if isinstance(name, str)]
    labels = label_count(config)
    if not any(name.endswith(CLASSIFIER) for name in named):
        found = f"{named[0][:60] if named else 'a model'} without a score head"
    elif labels != 1:
        found = f"a classifier with {labels} labels"
    else:
        return
    raise wrong_head(found, pointer)


def label_count(config: Mapping[str, Any]) -> int:
    """Return how many labels the classifier of *config* (a config.json) has, as transformers reads it."""
    labels, number = config.get("id2label"), config.get("num_labels")
    if isinstance(labels, dict):
        return len(labels)
    return number if isinstance(number, int) else DEFAULT_LABELS


def require_encoder_decoder(folder: Path, pointer: str) -> None:
    """Refuse a model in *folder* that is no encoder-decoder, as BARTScore needs.

    Raises:
        ModelNotUsable: it is not.
    """
    config = read_settings(folder, CONFIG)
    if config.get("is_encoder_decoder") is not True:
        finding = Finding(
            code="no_encoder_decoder",
            pointer=pointer,
            found=f"a model of type {str(config.get('model_type'))[:60]}",
            expected="an encoder-decoder, such as BART",
            fix="register one, such as facebook/bart-large-cnn",
        )
        raise ModelNotUsable("BARTScore needs an encoder-decoder", code="no_encoder_decoder", findings=[finding])


def wrong_head(found: str, pointer: str) -> ModelNotUsable:
    """Return the error that a model has what was *found* in place of one score."""
    expected = "a sequence classifier with one label"
    finding = Finding(code="wrong_head", pointer=pointer, found=found, expected=expected, fix=EVALUATION_FIX)
    return ModelNotUsable(f"found {found}, expected {expected}", code="wrong_head", findings=[finding])
