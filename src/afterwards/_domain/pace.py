"""How slowly a client may send: what is waited for the next byte, decided from what has come so far.

Only the time spent waiting for the client counts, never the time our own disk takes.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The slowest sending that is put up with. The defaults let through 8 kbit/s, less than any modem."""

    stall: float = 30.0  # seconds without a byte
    rate: float = 1_000.0  # bytes a second, on the average since the start
    grace: float = 20.0  # seconds before the rate counts

    def patience(self, received: int, waited: float) -> float:
        """Return for how many seconds the next byte may be waited for; none are left at 0 or below.

        Args:
            received: Bytes so far.
            waited: Seconds spent waiting for them.
        """
        return min(self.stall, self.grace + received / self.rate - waited)
