"""Background jobs: limits, leases, progress, cancellation and shutdown, with a job that is stored nowhere."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from audience_service.domain.core.context import Deadline
from audience_service.domain.core.errors import NameTaken, OutOfTime, StoreUnavailable
from audience_service.domain.core.jobs import STOPPED, Job, JobLimits, JobRunner, Report
from audience_service.domain.custom_audiences.errors import TooManyLookalikes
from tests.support.waiting import eventually

Run = Callable[[Deadline, Report], None]


class Stored:
    """A job and what was written of it."""

    def __init__(self, run: Run = lambda *_: None, key: str = "one") -> None:
        self.errors: list[str] = []
        self.progress: list[int] = []
        self.is_leased = True
        self.unavailable = 0
        self.job = Job(key, run, self._renew, self._finish)

    def _renew(self, _lease: Any, progress: int, _deadline: Deadline) -> bool:
        self.progress.append(progress)
        return self.is_leased

    def _finish(self, error: str, _deadline: Deadline) -> bool:
        if self.unavailable:
            self.unavailable -= 1
            raise StoreUnavailable("electing")
        self.errors.append(error)
        return True


def wait_for_cancel(deadline: Deadline, _: Report) -> None:
    """Work until the deadline is cancelled or passes."""
    while True:
        deadline.check()
        threading.Event().wait(0.005)


Runner = Callable[..., JobRunner]


@pytest.fixture
def runner() -> Iterator[Runner]:
    """Make runners, which are closed in the end."""
    made: list[JobRunner] = []

    def make(**limits: Any) -> JobRunner:
        made.append(JobRunner("test", JobLimits(**{"lease_seconds": 1.0, **limits}), TooManyLookalikes.of))
        return made[-1]

    yield make
    for each in made:
        each.close()


def start(runner: JobRunner, stored: Stored) -> Stored:
    """Start a job in a slot of its own."""
    with runner.slot() as slot:
        slot.start(stored.job)
    return stored


def ended(stored: Stored) -> str:
    """The error that a job ended with."""
    eventually(lambda: bool(stored.errors))
    return stored.errors[0]


def test_a_job_that_returns_finishes_without_an_error(runner: Runner) -> None:
    """Finish is called once, with an empty error."""
    stored = start(runner(), Stored())
    assert ended(stored) == ""
    assert stored.errors == [""]


def test_an_error_of_the_domain_is_stored_with_its_reason(runner: Runner) -> None:
    """The error begins with the reason code."""

    def run(*_: Any) -> None:
        raise NameTaken("taken")

    assert ended(start(runner(), Stored(run))) == "NAME_TAKEN: taken"


def test_a_defect_is_stored_as_an_incident_of_the_log(runner: Runner, capfd: pytest.CaptureFixture[str]) -> None:
    """The error hides what went wrong; the log has it."""

    def run(*_: Any) -> None:
        raise ZeroDivisionError("secret")

    error = ended(start(runner(), Stored(run)))
    assert error.startswith("INTERNAL: ")
    assert "secret" not in error
    assert error.rpartition(" ")[2] in "".join(capfd.readouterr())


def test_a_job_over_its_time_limit_fails(runner: Runner) -> None:
    """The deadline of the job passes, and the error names the limit."""
    error = ended(start(runner(timeout_seconds=0.05), Stored(wait_for_cancel)))
    assert error == "OUT_OF_TIME: the job took longer than the limit of 0.05 seconds"


def test_jobs_above_the_limit_are_refused_until_one_ends(runner: Runner) -> None:
    """The limit counts running and waiting jobs, and a job that was never started leaves its slot."""
    resume, limited = threading.Event(), runner(max_running=1, max_waiting=1)
    jobs = [start(limited, Stored(lambda *_: assert_set(resume))) for _ in range(2)]
    with pytest.raises(TooManyLookalikes) as caught, limited.slot():
        pass
    assert caught.value.metadata == {"quota": "lookalikes_in_training", "limit": "2"}
    resume.set()
    assert [ended(job) for job in jobs] == ["", ""]
    for _ in range(3):
        with limited.slot():
            pass


def assert_set(event: threading.Event) -> None:
    """Wait for an event."""
    assert event.wait(40)


def test_progress_never_decreases(runner: Runner) -> None:
    """A lower report than the last is dropped."""

    def run(_: Deadline, report: Report) -> None:
        for percent in (10, 5, 10, 40):
            report(percent)

    stored = start(runner(), Stored(run))
    ended(stored)
    assert stored.progress == [0, 10, 40]


def test_a_lease_is_renewed_while_the_job_runs(runner: Runner) -> None:
    """Renewals come several times per lease, with the current progress."""
    resume = threading.Event()

    def run(_: Deadline, report: Report) -> None:
        report(30)
        assert_set(resume)

    stored = start(runner(lease_seconds=0.1), Stored(run))
    eventually(lambda: stored.progress.count(30) > 3)
    resume.set()
    assert ended(stored) == ""


def test_a_job_whose_lease_is_lost_is_cancelled_and_writes_no_result(runner: Runner) -> None:
    """A refused renewal cancels the deadline, and neither result nor error is stored."""
    stopped = threading.Event()

    def run(deadline: Deadline, report: Report) -> None:
        try:
            wait_for_cancel(deadline, report)
        except OutOfTime:
            stopped.set()
            raise

    leased = runner(lease_seconds=0.1, max_running=1)
    stored = start(leased, Stored(run))
    eventually(lambda: bool(stored.progress))
    stored.is_leased = False
    assert stopped.wait(40)
    assert ended(start_when_free(leased, Stored(key="two"))) == ""
    assert stored.errors == []


def start_when_free(runner: JobRunner, stored: Stored) -> Stored:
    """Start a job once a slot is free."""

    def tried() -> bool:
        try:
            start(runner, stored)
        except TooManyLookalikes:
            return False
        return True

    eventually(tried)
    return stored


def test_cancel_stops_the_jobs_of_a_key_and_no_others(runner: Runner) -> None:
    """The cancelled job ends without a result; the other one goes on."""
    resume, both = threading.Event(), runner()
    one, two = start(both, Stored(wait_for_cancel)), start(both, Stored(lambda *_: assert_set(resume), "two"))
    both.cancel("one")
    resume.set()
    assert ended(two) == ""
    assert one.errors == []


@pytest.mark.slow
def test_a_result_is_written_once_the_database_is_back(runner: Runner) -> None:
    """Finish is repeated while the store is unavailable."""
    stored = Stored()
    stored.unavailable = 1
    assert ended(start(runner(), stored)) == ""


def test_close_cancels_all_jobs_and_marks_them_failed(runner: Runner) -> None:
    """Running and waiting jobs are FAILED immediately, so that another process can start them."""
    closing = runner(max_running=1, max_waiting=1)
    jobs = [start(closing, Stored(wait_for_cancel, key)) for key in ("one", "two")]
    closing.close()
    assert [job.errors for job in jobs] == [[STOPPED], [STOPPED]]
