"""Which frames of a clip are corrupt, and whether that is an error."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby
from typing import TypedDict

from ...runtime.deprecation import deprecated_property


class OnDamage(str, Enum):
    """Policy for corrupt frames.

    FAIL: raise an error. KEEP: return what the decoder makes of the frame or, where that is nothing, the frame before
    it again, so that the number of frames stays right.
    """

    FAIL = "fail"
    KEEP = "keep"


class CorruptRun(TypedDict):
    """A run of corrupt frames, as it is stored in job.json."""

    first: int
    last: int
    seconds: float  # of the first frame
    kind: str  # "concealed" or "repeated"


@dataclass
class CorruptionReport:
    """The corrupt frames of a clip, by frame number.

    concealed: frames that the decoder repaired in part. repeated: frames that could not be decoded and were replaced by
    the frame before (at the start, by the one after). Both map the frame number to its time in seconds. Each pass over
    the clip finds the same frames. leading: how many packets at the start belong to frames that cannot be
    displayed; these are not corrupt, and have no number.
    """

    concealed: dict[int, float] = field(default_factory=dict[int, float])
    repeated: dict[int, float] = field(default_factory=dict[int, float])
    leading: int = 0

    def __len__(self) -> int:
        return len({*self.concealed, *self.repeated})

    table = deprecated_property("table", "to_table")
    add = deprecated_property("add", "merge")

    def to_table(self, frames: range | None = None) -> list[CorruptRun]:
        """Return runs of corrupt frames: first, last, seconds (of the first) and kind.

        frames: report only these numbers.
        """
        rows: list[CorruptRun] = []
        for kind in ("concealed", "repeated"):
            numbers = sorted(n for n in getattr(self, kind) if frames is None or n in frames)
            for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
                run = [number for _, number in run]
                seconds = round(getattr(self, kind)[run[0]], 3)
                rows.append({"first": run[0], "last": run[-1], "seconds": seconds, "kind": kind})
        return sorted(rows, key=lambda row: row["first"])

    def merge(self, table: Iterable[CorruptRun]) -> None:
        """Add the rows that `to_table` returned in another run."""
        for row in table:
            for number in range(row["first"], row["last"] + 1):
                getattr(self, row["kind"]).setdefault(number, row["seconds"])

    def __str__(self) -> str:
        """Summarize in one line.

        For example '3 damaged frames: 30-31 concealed (1.250 s), 40 repeated (1.667 s)'.
        """
        table = self.to_table()
        spans = [
            f"{row['first']}{'' if row['first'] == row['last'] else '-' + str(row['last'])} {row['kind']} "
            f"({row['seconds']:.3f} s)"
            for row in table[:MAX_LISTED_RUNS]
        ]
        more = f" and {len(table) - MAX_LISTED_RUNS} more" if len(table) > MAX_LISTED_RUNS else ""
        return f"{len(self)} damaged frame{'' if len(self) == 1 else 's'}: {', '.join(spans)}{more}"


MAX_LISTED_RUNS = 8  # runs of frames that a summary lists
