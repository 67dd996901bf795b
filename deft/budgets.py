"""How much goes through a model at a time: padded tokens of a forward pass, positions whose logits exist together.

Torch-free. The operations use these numbers and `deft.planning` estimates memory by them.
"""

SCORING_TOKENS = {"cpu": 256, "cuda": 32_768}
"""Padded tokens of one forward pass of a scoring, by device; halved when memory runs out.

On a CPU wider passes are slower: what they compute on no longer fits the caches.
"""

LANES = 8
"""Passes that run side by side on a CPU, at most; each holds its own activations."""

SCORING_WINDOW = 4096
"""Examples that a scoring tokenises, sorts by length and packs into forward passes together: bounds memory."""

TRAINING_TOKENS = 8192
"""Padded tokens of one forward pass of training on a GPU where `micro_batch_size` is null."""

EVALUATION_TOKENS = {"cpu": 256, "cuda": 32_768}
"""Padded tokens of one forward pass over held-out pairs, by device."""

GENERATION_TOKENS = {"cpu": 8192, "cuda": 131_072}
"""Padded prompt and answer tokens that are generated together, by device: all wait for the longest answer."""

TRAINING_POSITIONS = 256
"""Response positions whose [., V] logits exist at one time in training and in evaluation."""

DIVERGENCE_POSITIONS = 128
"""Positions whose two [., V] logits exist at one time when two models are compared."""
