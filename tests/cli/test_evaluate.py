"""What `foveate evaluate` prints."""

METRICS = {
    "samples": {"test": 3},
    "cases": 3,
    "dice": 0.75,
    "dice_low": 0.5,
    "dice_high": 1.0,
    "dice.left_low": 0.8,
    "dice_low.left_low": 0.7,
    "dice_high.left_low": 0.9,
    "hd95_mm": None,
    "hd95_mm_low": None,
    "hd95_mm_high": None,
}


def test_a_measure_stands_beside_its_interval_and_a_count_is_whole(foveate, monkeypatch):
    monkeypatch.setattr("foveate.tasks.run.evaluate", lambda *arguments, **options: METRICS)
    status, out, _ = foveate("evaluate", "run")
    assert status == 0
    assert [line.split(maxsplit=1) for line in out.splitlines()] == [
        ["samples", "3 test"],
        ["cases", "3"],
        ["dice", "0.7500  95 %: 0.5000 to 1.0000"],
        ["dice.left_low", "0.8000  95 %: 0.7000 to 0.9000"],
        ["hd95_mm", "not defined"],
    ]
