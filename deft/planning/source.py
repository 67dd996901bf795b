"""What a plan is made from: a model's folder without its weights, and data sets or what stands for them.

Knows folders; the numbers that follow from them are made elsewhere in this package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from deft.data.datasets import have_lists, have_scores
from deft.data.splits import chosen_rows, held_out_of
from deft.errors import InvalidInput, ModelNotUsable
from deft.models.files import CONFIG, Weights, read_settings, read_weights, refuse_code
from deft.models.fit import check_fit
from deft.models.rope import switching_tokens
from deft.planning.documents import ModelFacts
from deft.planning.lengths import Sample, capped, sampled
from deft.planning.shapes import Shape, check_architecture, shape_of, size_in, text_settings
from deft.planning.tokenizer import PlanningTokenizer, load_planning_tokenizer
from deft.specs import ApartFrom, Lora, Rows, TokenOptions


@dataclass(frozen=True)
class ModelSource:
    """A base model by its settings and, where they lie beside them, its tokenizer and the headers of its weights."""

    name: str
    config: Mapping[str, Any]
    shape: Shape | None
    """None: the family is not known."""
    tokenizer: PlanningTokenizer | None = None
    weights: Weights | None = None

    @property
    def parameters(self) -> int | None:
        """All elements: counted in the headers, else calculated."""
        if self.weights is not None and not self.is_quantised:
            return self.weights.parameters
        return None if self.shape is None else self.shape.parameters

    @property
    def is_quantised(self) -> bool:
        """Whether the weights on disk are not the model's own numbers."""
        return self.config.get("quantization_config") is not None

    def size(self, name: str) -> int | None:
        """Return a field of the settings as a size, None where it is anything else."""
        if self.shape is not None and name == "vocab_size":
            return self.shape.vocabulary_size
        if self.shape is not None and name == "max_position_embeddings":
            return self.shape.context_tokens
        return size_in(text_settings(self.config).get(name))

    @property
    def switching_tokens(self) -> int | None:
        """Tokens beyond which a pass gets other rotary factors, None where it never does."""
        return switching_tokens(text_settings(self.config))

    def check(self, options: TokenOptions, lora: Lora | None) -> None:
        """Check what can be known without the weights: architecture, head, tokenizer, context, LoRA's target modules.

        Raises:
            ModelNotUsable: no causal model, an unknown head, a tokenizer or token caps that do not fit.
            InvalidInput: a target module that the model does not have.
        """
        check_architecture(self.config)
        check_fit(
            options,
            tokenizer_tokens=None if self.tokenizer is None else len(self.tokenizer),
            vocabulary_size=self.size("vocab_size"),
            context_tokens=self.size("max_position_embeddings"),
            switching_tokens=self.switching_tokens,
        )
        if self.shape is not None and lora is not None:
            self.shape.targets(lora)

    def facts(self, lora: Lora | None, *, is_full: bool = False) -> ModelFacts | None:
        """Return what the plan says of the model, None where nothing is known of its size."""
        shape, parameters = self.shape, self.parameters
        if parameters is None:
            return None
        trained = None if shape is None or lora is None else shape.lora_parameters(lora)
        return ModelFacts(
            name=self.name,
            family=None if shape is None else shape.model_type,
            basis="calculated" if self.weights is None or self.is_quantised else "counted",
            parameters=parameters,
            trainable_parameters=parameters if is_full else trained,
            weights_bytes=None if self.weights is None else self.weights.file_bytes,
            context_tokens=self.size("max_position_embeddings"),
            vocabulary_size=self.size("vocab_size"),
            tokenizer_tokens=None if self.tokenizer is None else len(self.tokenizer),
            head=None if shape is None else shape.head_kind,
        )


def open_model(name: str, folder: Path, *, has_weights: bool = True) -> ModelSource:
    """Read the settings, the tokenizer and, with *has_weights*, the headers in a model's *folder*.

    Raises:
        ModelNotUsable: settings or headers are damaged, weights are missing, or the folder brings code of its own.
    """
    try:
        refuse_code(folder)
        config = read_settings(folder, CONFIG)
        weights = read_weights(folder) if has_weights else None
        tokenizer, shape = load_planning_tokenizer(folder), shape_of(config)
    except ModelNotUsable as error:
        findings = [replace(finding, pointer="/model") for finding in error.findings]
        raise ModelNotUsable(error.message, code=error.error_code, findings=findings) from error
    return ModelSource(name, config, shape, tokenizer, weights)


@dataclass(frozen=True)
class Examples:
    """Some rows that an operation works on: how many (None: not known yet), and the lengths of a sample of them."""

    rows: int | None
    sample: Sample
    prompts: int | None = None
    """Distinct first user turns."""


@dataclass
class DataSource:
    """A folder with examples, read as far as a plan needs it. *is_whole*: a subset, of which every row is used."""

    folder: Path
    tokenizer: PlanningTokenizer | None
    options: TokenOptions
    is_whole: bool = False
    pointer: str = "/dataset"
    """Where the spec names it."""
    _known: dict[str, Examples] = field(default_factory=dict, init=False)

    def numbers(self, rows: Rows, apart: tuple[Path, ApartFrom] | None = None) -> list[int]:
        """Return the row numbers that *rows* asks for, without those whose prompts *apart* trains on.

        Raises:
            InvalidInput: no such row is there, or *apart* leaves none.
        """
        if self.is_whole:
            found: list[int] = pq.read_table(self.folder / "examples.parquet", columns=["row"])["row"].to_pylist()
            return found
        chosen = chosen_rows(self.folder, rows)
        return chosen if apart is None else held_out_of(self.folder, chosen, apart[0], apart[1].rows)

    def examples(self, rows: Rows, apart: tuple[Path, ApartFrom] | None = None) -> Examples:
        """Return what is known of the rows that *rows* asks for.

        Raises:
            InvalidInput: there is none, or one of the sample does not become tokens; findings name its line.
        """
        key = rows.model_dump_json() + ("" if apart is None else str(apart))
        if key not in self._known:
            numbers = self.numbers(rows, apart)
            self._known[key] = Examples(len(numbers), self._sample(numbers, rows.seed), self._prompts(numbers))
        return self._known[key]

    def has_lists(self, rows: Rows, apart: tuple[Path, ApartFrom] | None = None) -> bool:
        """Return whether any row that *rows* asks for, and *apart* leaves, has three responses or more."""
        return have_lists(self.folder, self.numbers(rows, apart))

    def has_scores(self, rows: Rows) -> bool:
        """Return whether every row that *rows* asks for has scores."""
        return have_scores(self.folder, self.numbers(rows))

    def _sample(self, numbers: list[int], seed: int) -> Sample:
        if self.tokenizer is None or not numbers:
            return capped(self.options)
        try:
            return sampled(self.folder, numbers, self.tokenizer, self.options, seed=seed)
        except InvalidInput as error:
            findings = [replace(finding, pointer=self.pointer) for finding in error.findings]
            raise InvalidInput(error.message, code=error.error_code, findings=findings) from error

    def _prompts(self, numbers: list[int]) -> int:
        table = pq.read_table(self.folder / "examples.parquet", columns=["row", "split_point"]).to_pydict()
        wanted = set(numbers)
        return len({p for row, p in zip(table["row"], table["split_point"], strict=True) if row in wanted})
