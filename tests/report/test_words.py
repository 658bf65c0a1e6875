import pytest

from foveate.compare.task import TASKS
from foveate.report.words import WORDS, words_for
from foveate.tasks.config import CONFIGS


@pytest.mark.parametrize("task", TASKS)
def test_all_that_a_study_is_summarised_by_has_a_name_and_all_that_has_one_is_known(task: str):
    words = words_for(task)
    assert words.task == task
    assert set(TASKS[task].metrics) <= set(words.metrics)
    assert set(words.metrics) <= set(TASKS[task].higher_is_better)
    assert next(iter(words.metrics)) == next(iter(TASKS[task].metrics))


def test_every_task_has_words_also_one_that_no_study_compares():
    assert set(WORDS) == set(CONFIGS)
    assert not words_for("translate").by_case
