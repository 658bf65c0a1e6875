"""Jobs for engines: what goes well, what fails, and what dies."""

import os
import signal
import sys
import time
from pathlib import Path


def square(number, *, report):
    report(f"squaring {number}")
    return number**2


def environment(name, *, report):
    return os.environ.get(name)


def process(*, report):
    return os.getpid()


def nap(seconds, *, report):
    time.sleep(seconds)


def is_imported(name, *, report):
    return name in sys.modules


def fail(*, report):
    raise ValueError("a square takes a number; got 'x'")


def fail_strangely(*, report):
    raise ZeroDivisionError("division by zero")


def return_what_cannot_travel(*, report):
    return lambda: None


def speak(*, report):
    print("a line for the log")


def die(*, report):
    os.kill(os.getpid(), signal.SIGKILL)


def die_once(mark: Path, *, report):
    if not mark.exists():
        mark.touch()
        report("the last words")
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def leave(*, report):
    os._exit(3)


def sleep(mark: Path, *, report):
    """Write the process to a file, which is how a test knows that it has begun, and stay for a minute."""
    mark.with_suffix(".new").write_text(str(os.getpid()))
    mark.with_suffix(".new").rename(mark)
    time.sleep(60)


def environment_in_company(name, here, there, *, report):
    """A variable of this process's environment, while another job is under way at the same time."""
    assert meet(here, there, report=report)
    return os.environ.get(name)


def meet(here: Path, there: Path, *, report):
    """End only if another job is under way at the same time."""
    here.touch()
    for _ in range(3000):
        if there.exists():
            return True
        time.sleep(0.01)
    return False


def interrupt(*, report):
    """What Ctrl-C does to every process of a terminal."""
    os.kill(os.getpid(), signal.SIGINT)
    return "went on"
