"""Test the client's events and errors, which scripts and host tests use."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest
from fake_comfyui import FakeComfyUI, FakeServer
from steadyscale.core.remote.client import connect
from steadyscale.core.remote.messages import decode_event
from steadyscale.core.remote.workflow import RunError, RunInterrupted, RunRefused

GRAPH = {
    "1": {"class_type": "LoadVideo", "inputs": {"file": "there.mp4"}},
    "2": {"class_type": "SaveVideo", "inputs": {"video": ["1", 0], "prefix": "out"}},
}


def run(fake: FakeComfyUI, on_event: Any = None) -> dict[str, Any]:
    async def follow(url: str) -> dict[str, Any]:
        async with connect(url) as client:
            await client.open_events()
            run_id = await client.queue_prompt(GRAPH, "run")
            return await client.wait_for_outputs(run_id, GRAPH, on_event=on_event, max_outage_seconds=0)

    with FakeServer(fake) as server:
        return asyncio.run(follow(server.url))


def test_no_event_of_a_short_run_is_missed() -> None:
    fake = FakeComfyUI(outputs={"2": {"text": ["done"]}})
    fake.events = [("executing", {"node": "1"}), ("progress", {"node": "2", "value": 3, "max": 8})]
    events: list[tuple[str, dict]] = []
    assert run(fake, lambda kind, data: events.append((kind, data))) == {"2": {"text": ["done"]}}
    assert [kind for kind, _ in events] == ["crystools.monitor", "executing", "progress", "executing"]
    assert events[2][1] == {"prompt_id": "run", "node": "2", "value": 3, "max": 8}


def test_a_refusal_keeps_the_answer_of_the_server() -> None:
    problem = {"class_type": "LoadVideo", "errors": [{"message": "Value not in list", "details": "file: 'x.mp4'"}]}
    fake = FakeComfyUI(node_errors={"1": problem})
    with pytest.raises(RunRefused, match=r"LoadVideo \(node 1\): Value not in list: file: 'x.mp4'") as refusal:
        run(fake)
    assert refusal.value.answer["node_errors"] == {"1": problem}
    assert fake._listeners == [], "the websocket is closed"


@pytest.mark.parametrize(("outcome", "kind"), [("interrupted", RunInterrupted), ("error", RunError)])
def test_interrupted_and_failed_runs_raise_different_errors(outcome: str, kind: type[RunError]) -> None:
    fake = FakeComfyUI(outcome=outcome, error_data={"node_id": "2", "exception_message": "no room"})
    with pytest.raises(RunError) as error:
        run(fake)
    assert type(error.value) is kind


def test_text_of_a_node_is_decoded_and_previews_are_not() -> None:
    message = struct.pack(">II", 3, 2) + b"12" + "a text…".encode()
    assert decode_event(message) == ("node_text", {"node": "12", "text": "a text…"})
    assert decode_event('{"type": "status", "data": {"sid": "x"}}') == ("status", {"sid": "x"})
    for other in (struct.pack(">II", 1, 2) + b"JPEG", b"", "not even JSON", '{"type": "status"}'):
        assert decode_event(other) is None
