"""Whatever the client does, frames leave whole, in order and once; who has too much waiting must wait."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollm_daemon.server.outbox import HARD_LIMIT, HIGH_WATER, Outbox

pytestmark = pytest.mark.anyio


class Transport:
    """Keeps what is written; the test decides when the client reads."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def set_write_buffer_limits(self, high: int) -> None:
        pass


ACTIONS = st.lists(st.one_of(st.binary(min_size=1, max_size=9), st.sampled_from(["pause", "resume", "turn"])))


@given(ACTIONS)
def test_order_and_content_are_kept(actions: list[bytes | str]) -> None:
    async def run() -> None:
        outbox, transport = Outbox(), Transport()
        outbox.attach(transport)
        frames = []
        for action in actions:
            if isinstance(action, bytes):
                frames.append(action)
                outbox.put(action)
            elif action == "turn":
                await anyio.lowlevel.checkpoint()
            else:
                getattr(outbox, action)()
        outbox.resume()
        assert b"".join(transport.writes) == b"".join(frames)

    anyio.run(run)


async def test_a_frame_that_comes_alone_leaves_at_once_and_others_of_its_turn_together() -> None:
    outbox, transport = Outbox(), Transport()
    outbox.attach(transport)
    await anyio.lowlevel.checkpoint()
    for frame in (b"a", b"b", b"c"):
        outbox.put(frame)
    assert transport.writes == [b"a"]
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    assert transport.writes == [b"a", b"bc"]


async def test_frames_of_one_turn_leave_in_one_write() -> None:
    outbox, transport = Outbox(), Transport()
    outbox.attach(transport)
    for frame in (b"a", b"b", b"c"):
        outbox.put(frame)
    assert transport.writes == []
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    assert transport.writes == [b"abc"]


async def test_a_producer_waits_until_the_client_reads() -> None:
    outbox = Outbox()
    outbox.attach(Transport())
    outbox.pause()
    outbox.put(b"x")
    assert outbox.full
    done = anyio.Event()

    async def produce() -> None:
        await outbox.ready()
        done.set()

    async with anyio.create_task_group() as task_group:
        task_group.start_soon(produce)
        await anyio.wait_all_tasks_blocked()
        assert not done.is_set()
        outbox.resume()
        with anyio.fail_after(10):
            await done.wait()


async def test_a_cancelled_wait_leaves_nothing_behind() -> None:
    outbox = Outbox()
    outbox.attach(Transport())
    outbox.pause()
    with anyio.move_on_after(0):
        await outbox.ready()
    assert outbox._waiters == []


async def test_a_client_that_lets_answers_pile_up_is_cut_off() -> None:
    outbox, transport = Outbox(), Transport()
    outbox.attach(transport)
    outbox.pause()
    frame = bytes(HIGH_WATER)
    for _ in range(HARD_LIMIT // HIGH_WATER + 1):
        outbox.put(frame)
    assert transport.aborted
    assert not outbox.full
    outbox.put(b"ignored")
    await outbox.ready()


async def test_close_sends_what_is_left() -> None:
    outbox, transport = Outbox(), Transport()
    outbox.attach(transport)
    outbox.put(b"last words")
    await outbox.close(1)
    assert (transport.writes, transport.closed) == ([b"last words"], True)


async def test_close_does_not_wait_for_a_client_that_never_reads() -> None:
    outbox, transport = Outbox(), Transport()
    outbox.attach(transport)
    outbox.pause()
    outbox.put(b"unread")
    with anyio.fail_after(10):
        await outbox.close(0.01)
    assert transport.aborted
