"""What makes two requests one."""

from hashlib import sha256

import pytest

from prompt_studio import InputError
from prompt_studio.fingerprints import fingerprint

pytestmark = pytest.mark.conformance


@pytest.mark.verifies("PS-IDEMPOTENCY-PG-6")
class TestFingerprint:
    def test_is_a_digest_of_the_operation_and_the_request(self) -> None:
        text = 'create_job\n{"a":[1,1.0,true,null],"b":"\N{SNOWMAN}"}'
        request = {"b": "\N{SNOWMAN}", "a": [1, 1.0, True, None]}
        assert fingerprint("create_job", request) == sha256(text.encode()).hexdigest()

    def test_does_not_see_the_order_of_keys(self) -> None:
        assert fingerprint("x", {"a": {"c": 1, "b": 2}, "d": 3}) == fingerprint("x", {"d": 3, "a": {"b": 2, "c": 1}})

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ({"a": 1}, {"a": 1.0}),
            ({"a": 1}, {"a": "1"}),
            ({"a": None}, {}),
            ([1, 2], [2, 1]),
            ({"a": True}, {"a": 1}),
            ("a", ["a"]),
            ({"a": "\u00e9"}, {"a": "e\u0301"}),
        ],
    )
    def test_sees_every_other_difference(self, one: object, other: object) -> None:
        assert fingerprint("x", one) != fingerprint("x", other)

    def test_sees_the_operation(self) -> None:
        assert fingerprint("create_job", {}) != fingerprint("create_project", {})

    @pytest.mark.parametrize("request_", [float("nan"), {1: 2}, {1, 2}, "\ud800"], ids=repr)
    def test_is_of_json_only(self, request_: object) -> None:
        with pytest.raises(InputError, match="request"):
            fingerprint("x", request_)
