"""`posttrain serve` with a toy model, asked by the real openai client and by hand-made requests."""

from __future__ import annotations

import json
import math
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from posttrain.cli import main
from posttrain.models.toy import make_toy
from tests.serving.process import Running, served

ASK: dict[str, Any] = {"model": "toy-model", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 12}


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("serve") / "toy-model", size="tiny")


@pytest.fixture(scope="module")
def server(toy: Path) -> Iterator[Running]:
    with served(toy) as running:
        yield running


@pytest.fixture
def client(server: Running, monkeypatch: pytest.MonkeyPatch) -> Iterator[openai.OpenAI]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=30) as client:
        yield client


def post(server: Running, body: object, **headers: str) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.post(f"{server.url}/chat/completions", content=content, headers=headers, timeout=30, trust_env=False)


def test_the_client_lists_the_model_and_gets_an_answer(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["toy-model"]
    found = client.chat.completions.create(**ASK, seed=3)
    again = client.chat.completions.create(**ASK, seed=3)
    other = client.chat.completions.create(**ASK, seed=4)
    choice = found.choices[0]
    assert choice.message.content == again.choices[0].message.content != other.choices[0].message.content
    assert choice.finish_reason in ("stop", "length") and choice.message.role == "assistant"
    assert found.usage is not None and found.usage.prompt_tokens == 24 and 1 <= found.usage.completion_tokens <= 12
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens


def test_log_probabilities_are_of_the_tokens_and_their_alternatives(client: openai.OpenAI) -> None:
    found = client.chat.completions.create(**ASK, temperature=0, logprobs=True, top_logprobs=5)
    logprobs = found.choices[0].logprobs
    assert logprobs is not None and logprobs.content is not None
    assert found.usage is not None and len(logprobs.content) == found.usage.completion_tokens
    for token in logprobs.content:
        values = [each.logprob for each in token.top_logprobs]
        assert len(values) == 5 and values == sorted(values, reverse=True)
        assert token.logprob == pytest.approx(values[0], abs=1e-5)  # greedy: what was written is the likeliest
        assert sum(map(math.exp, values)) <= 1.0001
    plain = client.chat.completions.create(**ASK, temperature=0, logprobs=True)
    assert [each.logprob for each in plain.choices[0].logprobs.content] == pytest.approx(  # type: ignore[union-attr]
        [each.logprob for each in logprobs.content], abs=1e-4
    )
    assert client.chat.completions.create(**ASK).choices[0].logprobs is None


def test_samples_stops_and_greedy(client: openai.OpenAI) -> None:
    several = client.chat.completions.create(**ASK, n=3, seed=5)
    texts = [choice.message.content or "" for choice in several.choices]
    assert [choice.index for choice in several.choices] == [0, 1, 2] and len(set(texts)) > 1
    stop = texts[0][2]
    cut = client.chat.completions.create(**ASK, seed=5, stop=[stop]).choices[0]
    assert cut.finish_reason == "stop" and cut.message.content == texts[0][: texts[0].index(stop)]
    greedy = [client.chat.completions.create(**ASK, temperature=0, seed=seed).choices[0].message.content for seed in (1, 2)]
    assert greedy[0] == greedy[1]


@pytest.mark.parametrize("extra", [{}, {"stop": ["qq", "\n"]}, {"n": 2}, {"logprobs": True, "top_logprobs": 2}])
def test_a_stream_says_the_same_as_a_whole_answer(client: openai.OpenAI, extra: dict[str, Any]) -> None:
    """The toy writes random bytes, so characters of several tokens and broken ones occur."""
    ask = {**ASK, "max_tokens": 40, "seed": 11, **extra}
    whole = client.chat.completions.create(**ask)
    texts, finishes, tokens, usage = ["", ""], {}, 0, None
    for piece in client.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}):
        usage = piece.usage or usage
        for choice in piece.choices:
            texts[choice.index] += choice.delta.content or ""
            finishes[choice.index] = choice.finish_reason or finishes.get(choice.index)
            tokens += len(choice.logprobs.content or ()) if choice.logprobs else 0
    assert texts[: len(whole.choices)] == [choice.message.content for choice in whole.choices]
    assert [finishes[choice.index] for choice in whole.choices] == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage and usage is not None
    assert tokens == (usage.completion_tokens if extra.get("logprobs") else 0)


def test_clients_at_once_are_written_together(server: Running) -> None:
    """Eight clients take far less than eight times one: their tokens are written in one batch."""
    ask = {**ASK, "max_tokens": 200, "temperature": 0, "messages": [{"role": "user", "content": "a"}]}
    alone = post(server, ask).json()
    began = time.monotonic()
    post(server, ask)
    one = time.monotonic() - began
    found: list[Any] = []
    clients = [threading.Thread(target=lambda: found.append(post(server, ask).json())) for _ in range(8)]
    began = time.monotonic()
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    assert len(found) == 8 and {each["choices"][0]["message"]["content"] for each in found} == {
        alone["choices"][0]["message"]["content"]
    }
    assert time.monotonic() - began < 6 * one + 1


BAD: dict[str, tuple[object, int, str]] = {
    "no JSON": (b"{", 400, "not JSON"),
    "no object": ([], 400, "not a JSON object"),
    "another model": ({**ASK, "model": "gpt"}, 404, "'gpt' is not served here"),
    "no model": ({"messages": []}, 400, "model is missing"),
    "no messages": ({**ASK, "messages": []}, 400, "messages is empty"),
    "an unknown role": ({**ASK, "messages": [{"role": "cat", "content": "x"}]}, 400, "role is 'cat'"),
    "no text": ({**ASK, "messages": [{"role": "user", "content": 3}]}, 400, "content is not text"),
    "a picture": ({**ASK, "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "not text"),
    "half a surrogate": (b'{"model":"toy-model","messages":[{"role":"user","content":"\\ud800"}]}', 400, "not valid text"),
    "tools": ({**ASK, "tools": [{"type": "function"}]}, 400, "tools is not supported here"),
    "a wrong temperature": ({**ASK, "temperature": -1}, 400, "temperature is -1"),
    "no number": ({**ASK, "max_tokens": "9"}, 400, "max_tokens is 9; expected a whole number"),
    "too many": ({**ASK, "n": 1000}, 400, "n is 1000"),
    "an empty stop": ({**ASK, "stop": ""}, 400, "stop is not"),
    "a penalty": ({**ASK, "presence_penalty": 0.5}, 400, "presence_penalty is not supported here"),
    "alternatives alone": ({**ASK, "top_logprobs": 3}, 400, "needs logprobs"),
    "too long": ({**ASK, "messages": [{"role": "user", "content": "x" * 2000}]}, 400, "the model's context is 1024"),
    "a huge body": (b" " * (5 * 2**20), 413, "larger than"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said_in_json(server: Running, name: str) -> None:
    body, status, text = BAD[name]
    found = post(server, body)
    assert found.status_code == status and text in found.json()["error"]["message"], found.text


def test_only_this_machines_own_programs_may_ask(server: Running) -> None:
    port = server.url.split(":")[2].split("/")[0]
    assert post(server, ASK, Host=f"localhost:{port}").status_code == 200
    assert post(server, ASK, Host=f"evil.example:{port}").status_code == 403
    assert post(server, ASK, Host="localhost:1").status_code == 403
    assert post(server, ASK, Origin="http://evil.example").status_code == 403
    assert post(server, ASK, Origin="null").status_code == 403
    assert post(server, ASK, Origin=f"http://127.0.0.1:{port}").status_code == 200
    lost = httpx2.get(f"{server.url}/nothing", trust_env=False)
    assert lost.status_code == 404 and "GET /v1/models" in lost.json()["error"]["message"]
    assert httpx2.get(f"{server.url}/chat/completions", trust_env=False).status_code == 405


def test_a_client_that_hangs_up_frees_its_place(server: Running) -> None:
    """One that asks for much and leaves must not be written to the end: the next answer comes at once."""
    body = json.dumps({**ASK, "max_tokens": 900, "n": 64, "stream": True, "temperature": 1.5}).encode()
    port = int(server.url.split(":")[2].split("/")[0])
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(head + body)
        connection.recv(100)
    found = post(server, {**ASK, "max_tokens": 2})
    assert found.status_code == 200 and found.elapsed.total_seconds() < 10


def test_a_token_is_asked_for_and_ctrl_c_ends_cleanly(toy: Path) -> None:
    with served(toy, "--token-env", "SERVE_TOKEN", "--name", "mine", SERVE_TOKEN="s3cret") as running:
        ask = {**ASK, "model": "mine"}
        assert post(running, ask).status_code == 401
        assert post(running, ask, Authorization="Bearer wrong").status_code == 401
        assert post(running, ask, Authorization="Bearer s3cret").status_code == 200
        running.process.send_signal(signal.SIGINT)
        out, err = running.process.communicate(timeout=15)
        assert running.process.returncode == 130 and "Traceback" not in err and "s3cret" not in out + err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--host", "0.0.0.0"], "--host 0.0.0.0 can be reached from other machines, and there is no token."),
        (["--token-env", "NOT_SET_ANYWHERE"], "the environment variable NOT_SET_ANYWHERE is not set"),
    ],
)
def test_mistakes_are_refused(toy: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["serve", str(toy), *arguments])
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_a_taken_port_and_a_missing_model(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(SystemExit) as end:
            main(["serve", str(toy), "--port", str(taken.getsockname()[1])])
        assert end.value.code == 2 and "Choose another --port" in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        main(["serve", str(tmp_path / "gone")])
    assert end.value.code == 2 and "Traceback" not in capsys.readouterr().err
