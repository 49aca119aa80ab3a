"""A history says what was asked and answered, whatever became of the process that wrote it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from prompt_studio import DatabaseError, InvariantViolation, PromptStudioDatabase, StoreUnavailable, TransientConflict
from tests.harness.history import Asked, History, MalformedHistory, Timeline, Told, calls_of
from tests.harness.recorder import CREATES, Home, RecordedDatabase, Recorder
from tests.processes.story import START, Story

pytestmark = pytest.mark.processes

ASKED = b'["asked",1,["acquire",null,null,null,null,null]]\n'
TOLD = b'["told",2,["none",null,null,false,null]]\n'


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path, "a")
    yield recorder
    recorder.close()


@pytest.fixture
def recorded(tmp_path: Path, recorder: Recorder) -> Iterator[RecordedDatabase]:
    with PromptStudioDatabase(tmp_path / "jobs.db", "tester") as database:
        yield RecordedDatabase(database, recorder)


class TestReading:
    def test_pairs_questions_with_answers(self) -> None:
        (call,) = calls_of("a", ASKED + TOLD)
        assert (call.asked, call.told, call.invoked, call.responded) == (Asked("acquire"), Told("none"), 1, 2)

    @pytest.mark.parametrize("torn", [b"", TOLD[:-1], TOLD[:5]])
    def test_leaves_a_call_pending_whose_answer_is_missing_or_torn(self, torn: bytes) -> None:
        (call,) = calls_of("a", ASKED + torn)
        assert call.pending
        assert call.responded is None

    def test_knows_nothing_of_a_question_that_was_torn(self) -> None:
        assert list(calls_of("a", ASKED[:-1])) == []

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (TOLD, "missing before"),
            (ASKED + ASKED, "missing before"),
            (ASKED + TOLD + TOLD, "missing before"),
            (ASKED + TOLD + ASKED, "runs backwards"),
            (b"{}\n", "no record"),
            (b"no json\n", "no record"),
        ],
    )
    def test_refuses_what_no_recorder_writes(self, content: bytes, says: str) -> None:
        with pytest.raises(MalformedHistory, match=says):
            list(calls_of("a", content))

    def test_refuses_a_directory_in_which_nothing_was_recorded(self, tmp_path: Path) -> None:
        with pytest.raises(MalformedHistory, match="nothing was recorded"):
            History.read(tmp_path)


class TestRecording:
    @pytest.mark.parametrize("entity_type", CREATES)
    def test_says_who_made_what_a_key_stands_for(
        self, tmp_path: Path, recorded: RecordedDatabase, entity_type: str
    ) -> None:
        project = recorded.database.create_project("home")
        home = Home(project["id"], recorded.database.create_prompt(project_id=project["id"], name="home")["id"])
        scope = (entity_type, "k", "ann")
        told = [recorded.create_once(scope, number, home) for number in (7, 8)]
        assert [answer.created for answer in told] == [True, False]
        assert told[0].entity_id == told[1].entity_id == recorded.lookup(scope).entity_id
        assert (told[0].job is not None, told[1].job) == (entity_type in {"job", "optimization"}, None)
        assert [call.told for call in History.read(tmp_path).of("once")] == told

    def test_writes_each_call_and_its_answer(self, tmp_path: Path, recorded: RecordedDatabase) -> None:
        job = recorded.create(7, priority=6).job
        assert job is not None
        taken = recorded.acquire(60).job
        assert taken is not None
        assert (taken.id, taken.entity_id, taken.priority, taken.token, taken.executions) == (job.id, 7, 6, 1, 1)
        assert (taken.leased_until or 0) - (taken.started_at or 0) == 60_000
        recorded.renew(job.id, 1, 60)
        recorded.release(job.id, 1)
        recorded.complete(job.id, 1)
        recorded.fail(job.id, 9, retryable=True)
        recorded.cancel(job.id)
        recorded.acquire(60)
        recorded.lookup(("job", "k", None))
        recorded.record(("job", "k", None), 5)
        recorded.lookup(("job", "k", None))
        told = [(call.asked.operation, call.told and call.told.kind) for call in History.read(tmp_path).calls]
        assert told == [
            ("create", "row"),
            ("acquire", "row"),
            ("renew", "applied"),
            ("release", "applied"),
            ("complete", "lease_lost"),
            ("fail", "lease_lost"),
            ("cancel", "applied"),
            ("acquire", "none"),
            ("lookup", "none"),
            ("record", "recorded"),
            ("lookup", "found"),
        ]
        assert {call.process for call in History.read(tmp_path).calls} == {"a"}

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (TransientConflict("others were in the way"), Told("conflict")),
            (InvariantViolation("refused", invariant="INV-X"), Told("broken", broken="INV-X")),
        ],
        ids=["a conflict", "a refusal by the schema"],
    )
    def test_takes_for_an_answer_what_says_that_nothing_happened(
        self,
        tmp_path: Path,
        recorded: RecordedDatabase,
        monkeypatch: pytest.MonkeyPatch,
        error: DatabaseError,
        told: Told,
    ) -> None:
        def refuse(**_: object) -> None:
            raise error

        monkeypatch.setattr(recorded.database, "acquire_next_job", refuse)
        assert recorded.acquire(60) == told
        assert [call.told for call in History.read(tmp_path).calls] == [told]

    def test_leaves_a_call_pending_that_failed_otherwise(
        self, tmp_path: Path, recorded: RecordedDatabase, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def vanish(**_: object) -> None:
            raise StoreUnavailable("the answer was lost", outcome_unknown=True)

        monkeypatch.setattr(recorded.database, "acquire_next_job", vanish)
        with pytest.raises(StoreUnavailable):
            recorded.acquire(60)
        assert [call.pending for call in History.read(tmp_path).calls] == [True]

    def test_refuses_a_name_that_somebody_has_had(self, tmp_path: Path, recorder: Recorder) -> None:
        with pytest.raises(FileExistsError):
            Recorder(tmp_path, recorder.process)


class TestDuring:
    def test_finds_whoever_was_under_way(self) -> None:
        story = Story()
        spans = [(20, 200), (30, 40), (50, 60), (55, 300), (100, 110)]
        for name, at in zip("abcde", spans, strict=True):
            story.say(name, Asked("acquire"), Told("none"), at=at)
        story.say("f", Asked("acquire"), None, at=(105, 105))
        history = History(story.calls)
        for begin, end in [(0, 9), (35, 35), (40, 50), (61, 99), (110, 120), (250, 260), (400, 500)]:
            found = sorted(call.invoked for call in history.during(begin, end))
            assert found == sorted(
                call.invoked
                for call in story.calls
                if call.invoked <= end and (call.responded is None or call.responded >= begin)
            )


class TestTimeline:
    def test_knows_the_bounds_of_what_the_clock_showed(self) -> None:
        story = Story()
        story.tick(5, at=(100, 200))
        timeline = Timeline(story.calls)
        assert [(timeline.least(at), timeline.most(at)) for at in (9, 15, 20, 150, 200)] == [
            (None, None),
            (None, START),
            (START, START),
            (START, START + 5),
            (START + 5, START + 5),
        ]
