"""Where a model's rotary positions change with the length of a forward pass, from its config.json alone. Torch-free.

LongRoPE (arXiv 2402.13753; Phi-3 and Phi-4 with long contexts) has two sets of factors, and transformers 5 chooses one
for a whole pass by its largest position: a short sequence would get other numbers beside a long one. Dynamic NTK
scaling also looks at the pass, but only beyond `max_position_embeddings`, which token limits never exceed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

_SWITCHING = {"longrope", "su"}
"""Types that choose by the pass; `su` is what the first Phi-3 called it."""


def switching_tokens(settings: Mapping[str, Any]) -> int | None:
    """Return the tokens beyond which a pass gets other rotary factors, None where it never does.

    *settings* are the fields of the language model's config.json, as published or as transformers writes them.
    """
    found = []
    for rope in _ropes(settings):
        kind = rope.get("rope_type", rope.get("type"))
        if kind in _SWITCHING or (kind == "yarn" and settings.get("model_type") == "phi3"):  # read as longrope there
            places = (settings, rope)
            sizes = [place.get("original_max_position_embeddings") for place in places]
            found += [size for size in [*sizes, settings.get("max_position_embeddings")] if isinstance(size, int)][:1]
    return min(found, default=None)


def _ropes(settings: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the parameters of every kind of rotary embedding: one for all layers, or one a kind of layer."""
    for name in ("rope_parameters", "rope_scaling"):
        own = settings.get(name)
        if isinstance(own, Mapping):
            yield own
            yield from (inner for inner in own.values() if isinstance(inner, Mapping))
