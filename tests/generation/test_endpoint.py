"""The chat client against a real server that does what servers do: what is retried, what is not, and what is never an answer."""

from __future__ import annotations

import asyncio
import email.utils
import json
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from posttrain.core.config.endpoint import EndpointConfig
from posttrain.core.errors import Unanswered, UserError
from posttrain.core.types import Message, Reply, Sampling
from posttrain.generation import endpoint
from posttrain.generation.endpoint import Endpoint, backoff, read_reply, retry_after
from posttrain.records.replies import Remembered
from tests.generation.chat_server import (
    Behaviour,
    ChatServer,
    Handler,
    completion,
    drip,
    echo,
    first,
    half_close,
    hang,
    hang_up,
    serving,
    status,
)

ASKED = (Message("system", "Be brief."), Message("user", "What is 1 + 1?"))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def settings(server: ChatServer, **changes: object) -> EndpointConfig:
    return EndpointConfig(**{"url": server.url, "model": "big", "timeout_s": 10, "retries": 2, **changes})  # type: ignore[arg-type]


def ask(config: EndpointConfig, sampling: Sampling | None = None) -> Reply:
    async def work() -> Reply:
        async with Endpoint(config) as model:
            return await model.reply(ASKED, sampling or Sampling(), seed=2**40 + 5)

    return asyncio.run(work())


def ask_many(config: EndpointConfig, count: int) -> list[Reply | BaseException]:
    async def work() -> list[Reply | BaseException]:
        async with Endpoint(config) as model:
            asked = [model.reply((Message("user", str(i)),), Sampling(), seed=i) for i in range(count)]
            return await asyncio.gather(*asked, return_exceptions=True)

    return asyncio.run(work())


def test_an_answer_comes_back_with_its_finish_reason_and_what_was_asked_is_what_was_meant() -> None:
    with serving(lambda handler, body, number: handler.answer(completion("2", finish="length", reasoning_content="1+1"))) as server:
        found = ask(settings(server), Sampling(0.7, 12, top_p=0.9, top_k=5, stop=("\n",)))
    assert found == Reply("2", "length", 3, "1+1")
    assert server.asked == [
        {
            "path": "/v1/chat/completions",
            "model": "big",
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 1 + 1?"}],
            "temperature": 0.7,
            "max_tokens": 12,
            "seed": 5,
            "top_p": 0.9,
            "top_k": 5,
            "stop": ["\n"],
        }
    ]


@pytest.mark.parametrize(
    "fail",
    [status(408), status(429), status(500), status(503), hang_up, half_close, hang, drip],
    ids=["408", "429", "500", "503", "hangs up", "half closed", "hangs", "drips"],
)
def test_what_may_pass_is_tried_again(fail: Behaviour) -> None:
    with serving(first(2, fail)) as server:
        assert ask(settings(server, timeout_s=0.4 if fail in (hang, drip) else 10)).text == "you said: What is 1 + 1?"
    assert len(server.asked) == 3


@pytest.mark.parametrize("fail", [status(500), hang_up, half_close, hang], ids=["500", "hangs up", "half closed", "hangs"])
def test_what_does_not_pass_is_unanswered_after_the_last_try(fail: Behaviour) -> None:
    with serving(fail) as server, pytest.raises(Unanswered, match=r"\(3 tries\)") as found:
        ask(settings(server, timeout_s=0.4 if fail is hang else 10))
    assert len(server.asked) == 3 and found.value.exit_code == 4


def test_a_port_where_nobody_listens_is_unanswered() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        config = EndpointConfig(url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1", model="m", retries=1)
        with pytest.raises(Unanswered, match="the connection failed"):
            ask(config)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>not json</html>",
        b"",
        b"[]",
        b'"text"',
        b"{}",
        b'{"choices": []}',
        b'{"choices": [{"message": "hi", "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "hi"}}]}',
        b'{"choices": [{"message": {"content": ["hi"]}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": null}, "finish_reason": "stop"}]}',
        b'{"choices": [{"message": {"content": "\\ud800"}, "finish_reason": "stop"}]}',
        b"[" * 100_000,
        b"\xff\xfe\x00",
    ],
)
def test_junk_is_unanswered_at_once_and_never_an_empty_answer(content: bytes) -> None:
    with (
        serving(lambda handler, body, number: handler.raw(content)) as server,
        pytest.raises(Unanswered, match="no chat"),
    ):
        ask(settings(server))
    assert len(server.asked) == 1


@pytest.mark.parametrize("finish", ["content_filter", "tool_calls", None, 7])
def test_an_answer_that_did_not_end_by_itself_or_by_length_is_none(finish: object) -> None:
    with serving(lambda handler, body, number: handler.answer(completion("half", finish=finish))) as server:
        found = ask_many(settings(server, give_up_after=1, concurrency=1), 3)
    assert all(isinstance(each, Unanswered) and "finish_reason" in str(each) for each in found)
    assert len(server.asked) == 3  # each was refused for itself: the endpoint is well


def test_an_answer_cut_off_while_it_still_reasoned_is_cut_off() -> None:
    assert read_reply(json.dumps(completion(None, finish="length")).encode()) == Reply("", "length", 3)
    assert read_reply(json.dumps(completion("x", tokens=None)).encode()).tokens is None


@pytest.mark.parametrize("code", [400, 413, 422, 301])
def test_a_refused_request_is_not_tried_again(code: int) -> None:
    with serving(status(code, Location="http://127.0.0.1:1/elsewhere")) as server, pytest.raises(Unanswered, match=f"HTTP {code}"):
        ask(settings(server))
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_every_request_would_meet_is_the_users_to_mend(code: int) -> None:
    with serving(status(code)) as server, pytest.raises(UserError, match=f"HTTP {code}") as found:
        ask(settings(server))
    assert found.value.exit_code == 2 and found.value.fix


def test_retry_after_is_honoured() -> None:
    with serving(first(1, status(429, Retry_After="1"))) as server:
        ask(settings(server))
    assert server.times[1] - server.times[0] >= 1.0


def test_a_wait_that_is_too_long_is_no_wait() -> None:
    with serving(status(429, Retry_After="3600")) as server, pytest.raises(Unanswered, match="asks to wait 3600 s"):
        ask(settings(server))
    assert len(server.asked) == 1


def test_retry_after_as_a_date_or_as_nonsense() -> None:
    later = retry_after(email.utils.formatdate(time.time() + 30, usegmt=True))
    assert later is not None and 25 < later <= 30
    assert retry_after(email.utils.formatdate(0, usegmt=True)) == 0
    assert retry_after(None) is retry_after("soon") is retry_after("-5") is None
    assert retry_after("7") == 7


def test_waits_grow_and_are_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_WAIT_S", 1.0)
    for tries, most in ((1, 1), (3, 4), (20, endpoint.LONGEST_WAIT_S)):
        waits = [backoff(tries) for _ in range(200)]
        assert max(waits) <= most and max(waits) > 0.8 * most and min(waits) < 0.2 * most


def test_no_more_requests_than_allowed_are_under_way() -> None:
    def slow(handler: Handler, body: dict[str, object], number: int) -> None:
        time.sleep(0.02)
        echo(handler, body, number)

    with serving(slow) as server:
        found = ask_many(settings(server, concurrency=3, timeout_s=5), 12)
    assert [each.text for each in found if isinstance(each, Reply)] == [f"you said: {i}" for i in range(12)]
    assert 1 < server.most_under_way <= 3


def test_a_dead_endpoint_is_given_up_and_found_alive_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(status(500)) as server:
        config = settings(server, give_up_after=3, retries=0, concurrency=1)

        async def work() -> None:
            async with Endpoint(config) as model:

                async def one() -> Awaitable[Reply] | Reply:
                    return await model.reply(ASKED, Sampling(), seed=0)

                for _ in range(3):
                    with pytest.raises(Unanswered, match="HTTP 500"):
                        await one()
                for _ in range(5):
                    with pytest.raises(Unanswered, match="given up after 3 unanswered requests in a row; the last: HTTP 500"):
                        await one()
                assert len(server.asked) == 3
                monkeypatch.setattr(endpoint, "BREAK_S", 0.0)
                model._breaker.until = 0.0  # the pause is over
                server.behaviour = echo
                assert (await one()).text and (await one()).text

        asyncio.run(work())
    assert len(server.asked) == 5


def test_the_token_comes_from_the_environment_and_goes_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def tell(handler: Handler, body: dict[str, object], number: int) -> None:
        handler.answer({"error": f"bad key {handler.headers['authorization']}"}, 400)

    monkeypatch.setenv("TEACHER_TOKEN", "sk-secret")
    with serving(tell) as server:
        with pytest.raises(Unanswered) as found:
            ask(settings(server, token_env="TEACHER_TOKEN"))
        assert server.headers[0]["Authorization"] == "Bearer sk-secret"
        assert "sk-secret" not in str(found.value) and "***" in str(found.value)
        server.behaviour = echo
        ask(settings(server))
        assert "Authorization" not in server.headers[1]
        monkeypatch.delenv("TEACHER_TOKEN")
        with pytest.raises(UserError, match="TEACHER_TOKEN, which is not set"):
            ask(settings(server, token_env="TEACHER_TOKEN"))


def test_what_a_server_says_cannot_command_a_terminal() -> None:
    with (
        serving(lambda handler, body, number: handler.raw(b"\x1b[2J\x07gone\r\n" * 50, 400)) as server,
        pytest.raises(Unanswered) as found,
    ):
        ask(settings(server))
    assert found.value.message.isprintable() and "gone" in found.value.message and len(found.value.message) < 300


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:80", "expected http"),
        ("ftp://host/v1", "expected http"),
        ("http://", "expected http"),
        ("http://host:99999/v1", "expected http"),
        ("http://me:secret@host/v1", "more than a host"),
        ("ftp://me:secret@host/v1", "more than a host"),
        ("http://host/v1?key=secret", "more than a host"),
    ],
)
def test_urls_that_are_none_or_hold_secrets_are_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as found:
        EndpointConfig(url=url, model="m")
    assert "secret" not in str(found.value)


class Counting:
    """A chat model that answers with how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def reply(self, messages: Sequence[Message], sampling: Sampling, *, seed: int, top: int = 0) -> Reply:
        self.asked += 1
        if messages[0].content == "nothing":
            raise Unanswered("no")
        return Reply(f"answer {self.asked}", "stop", 2, "")


def test_replies_are_asked_for_once_by_what_was_asked(tmp_path: Path) -> None:
    file, model = tmp_path / "replies.jsonl", Counting()

    def reply(text: str = "q", name: str = "m", seed: int = 0, temperature: float = 1.0) -> str:
        kept: Callable[..., Awaitable[Reply]] = Remembered(model, name, file).reply
        return asyncio.run(kept((Message("user", text),), Sampling(temperature), seed=seed)).text  # type: ignore[arg-type]

    assert [reply(), reply()] == ["answer 1", "answer 1"]
    others = [reply("r"), reply(name="n"), reply(seed=1), reply(temperature=0.5)]
    assert others == [f"answer {n}" for n in (2, 3, 4, 5)]
    with file.open("a") as torn:
        torn.write('{"event": "reply", "key": "x", "te')  # as a kill leaves it
    assert reply() == "answer 1" and reply("s") == "answer 6" and reply("s") == "answer 6"
    for _ in range(2):
        with pytest.raises(Unanswered):
            reply("nothing")
    assert model.asked == 8  # a failure is asked for again
