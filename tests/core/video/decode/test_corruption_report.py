"""Reports of corrupt frames: as rows, as a sentence, and merged."""

from steadyscale.core.video.decode.corruption_report import CorruptionReport


def test_reports_can_be_merged():
    damage = CorruptionReport({3: 0.125, 4: 1 / 6, 9: 0.375}, {5: 5 / 24})
    assert damage.to_table() == [
        {"first": 3, "last": 4, "seconds": 0.125, "kind": "concealed"},
        {"first": 5, "last": 5, "seconds": 0.208, "kind": "repeated"},
        {"first": 9, "last": 9, "seconds": 0.375, "kind": "concealed"},
    ]
    assert str(damage) == ("4 damaged frames: 3-4 concealed (0.125 s), 5 repeated (0.208 s), 9 concealed (0.375 s)")
    again = CorruptionReport()
    again.merge(damage.to_table(range(4, 9)))
    assert sorted({*again.concealed, *again.repeated}) == [4, 5]
