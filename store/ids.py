"""Ids: a prefix that says the kind of thing, the instant in microseconds, and 72 random bits.

They sort by the time they were made, within the resolution of the host's clock.
"""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: no i, l, o, u
_RANDOM_BITS = 72
_CHARACTERS = 26


def new_id(prefix: str) -> str:
    """Return a new id such as `job_01k...` (26 characters after *prefix* and the underscore)."""
    number = (time.time_ns() // 1000 << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    digits = [_ALPHABET[(number >> 5 * place) & 31] for place in reversed(range(_CHARACTERS))]
    return f"{prefix}_{''.join(digits)}"
