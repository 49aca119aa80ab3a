"""A worker's log, whatever is logged: one record is one line, and nothing in it passes for something else."""

import json
import logging
import math
from typing import Any

import pytest

from prompt_studio.worker_log import JsonFormatter, TextFormatter

pytestmark = [pytest.mark.conformance, pytest.mark.verifies("PS-LEASE-HB-16")]


def record(message: str, **facts: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"name": "prompt_studio.worker", "levelname": "INFO", "msg": message, "created": 0.0, **facts}
    )


def as_json(message: str, **facts: object) -> dict[str, Any]:
    def refused(name: str) -> object:
        raise AssertionError(f"{name} is no JSON")

    line = JsonFormatter().format(record(message, **facts))
    assert len(line.splitlines()) == 1
    told: dict[str, Any] = json.loads(line, parse_constant=refused)
    return told


class TestText:
    def test_is_a_line_with_the_facts_behind_the_message(self) -> None:
        line = TextFormatter().format(record("job 1: begun", job_id=1, worker_id="a-worker"))
        assert line == "1970-01-01T00:00:00.000+00:00 INFO job 1: begun job_id=1 worker_id=a-worker"

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            ("two words", '"two words"'),
            ("a\nb", '"a\\nb"'),
            ("level=ERROR", '"level=ERROR"'),
            ('"', '"\\""'),
            ("", '""'),
            ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "caf\N{LATIN SMALL LETTER E WITH ACUTE}"),
            ("\x1b[2J", '"\\u001b[2J"'),
            (None, "None"),
            (0.5, "0.5"),
        ],
    )
    def test_quotes_what_is_not_one_word(self, value: object, told: str) -> None:
        assert TextFormatter().format(record("m", note=value)).endswith(f" m note={told}")

    def test_has_no_second_line_in_its_message(self) -> None:
        line = TextFormatter().format(record("no answer: lost\n1970-01-01 INFO all is well\x1b[2J"))
        assert line.endswith("INFO no answer: lost\\n1970-01-01 INFO all is well\\x1b[2J")

    def test_has_a_traceback_below(self) -> None:
        error = LookupError("here")
        told = record("job 1 failed", exc_info=(LookupError, error, None), job_id=1)
        lines = TextFormatter().format(told).splitlines()
        assert (lines[0][-21:], lines[-1]) == ("job 1 failed job_id=1", "LookupError: here")
        assert as_json("x", exc_info=told.exc_info)["error"].endswith("LookupError: here")


class TestJson:
    def test_keeps_what_is_its_own(self) -> None:
        told = as_json("m", time="never", level="ERROR", message_="?", logger="other", error="none", job_id=1)
        assert told == {
            "time": "1970-01-01T00:00:00.000+00:00",
            "level": "INFO",
            "logger": "prompt_studio.worker",
            "message": "m",
            "time_": "never",
            "level_": "ERROR",
            "logger_": "other",
            "error_": "none",
            "message_": "?",
            "job_id": 1,
        }

    @pytest.mark.parametrize(
        ("value", "told"),
        [
            (math.nan, "nan"),
            ({"score": math.inf}, "{'score': inf}"),
            ({(1, 2): 3}, "{(1, 2): 3}"),
            ({"a": [1, None]}, {"a": [1, None]}),
            (b"x", "b'x'"),
            ("a\nb", "a\nb"),
        ],
    )
    def test_tells_what_is_no_json_as_text(self, value: object, told: object) -> None:
        assert as_json("m", value=value)["value"] == told
