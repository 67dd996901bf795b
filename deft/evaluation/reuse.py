"""How much of an evaluation was there already when it began: from other evaluations, or from an earlier attempt."""

from dataclasses import dataclass


@dataclass(slots=True)
class Reused:
    """Numbers of *answers*, of held-out *pairs* and of general *texts* scored, counted over all systems."""

    answers: int = 0
    pairs: int = 0
    texts: int = 0

    def words(self) -> str:
        """Return it as a line for the record; empty where everything was computed now."""
        own = {"answers": self.answers, "scored pairs": self.pairs, "scored texts": self.texts}
        found = [f"{number:,} {name}" for name, number in own.items() if number]
        return f"computed before and taken again: {', '.join(found)}" if found else ""
