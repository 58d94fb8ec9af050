"""Reports of the steps of a job."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class ShardReport:
    """Report of one call of `run_shard`.

    computed: numbers of the pieces that this call computed. frames: number of frames in these pieces. missing: number
    of pieces of the whole job that are not finished. pieces: number of pieces of the job. seconds: wall-clock time.
    """

    computed: list[int]
    frames: int
    missing: int
    pieces: int
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """The report as JSON values: what `steadyscale ... --shard --json` prints."""
        return asdict(self)

    def __str__(self) -> str:
        """One line.

        Such as "3 pieces (72 frames) in 8.1 s; 5 of 8 pieces of the job are not finished".
        """
        rest = (
            f"{self.missing} of {self.pieces} pieces of the job are not finished"
            if self.missing
            else "the job is complete"
        )
        return f"{len(self.computed)} pieces ({self.frames} frames) in {self.seconds:.1f} s; {rest}"


class MeasureReport(ShardReport):
    """Report of one call of `measure_job`, with the same fields for measured pieces."""

    def __str__(self) -> str:
        """One line.

        Such as "motion of 3 pieces (720 frames) in 8.1 s; that of 5 of 8 is not measured".
        """
        rest = f"that of {self.missing} of {self.pieces} is not measured" if self.missing else "all is measured"
        return f"motion of {len(self.computed)} pieces ({self.frames} frames) in {self.seconds:.1f} s; {rest}"
