import pytest

from foveate.compare.task import TASKS
from foveate.report.words import WORDS, words_for


@pytest.mark.parametrize("task", TASKS)
def test_all_that_a_study_is_summarised_by_has_a_name_and_all_that_has_one_is_known(task: str):
    words = words_for(task)
    assert words.task == task
    assert set(TASKS[task].metrics) <= set(words.metrics)
    assert set(words.metrics) <= set(TASKS[task].higher_is_better)
    assert next(iter(words.metrics)) == next(iter(TASKS[task].metrics))
    assert set(WORDS) == set(TASKS)
