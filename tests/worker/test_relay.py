"""Events out of a file that a child writes as it likes."""

from __future__ import annotations

import json
import os

from sqlalchemy.exc import OperationalError

from modelpress.spec.event import Checkpointed, Warned
from worker import relay as module
from worker.relay import EventFile, Relay


def _line(message: str) -> bytes:
    return json.dumps({"kind": "warning", "message": message}).encode() + b"\n"


def _read_all(file: EventFile) -> list[str]:
    messages: list[str] = []
    while True:
        events, is_all = file.read()
        messages += [event.message for event in events if isinstance(event, Warned)]
        if is_all:
            return messages


def test_a_line_counts_once_it_is_whole(tmp_path):
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    assert _read_all(file) == []
    path.write_bytes(_line("one") + _line("two")[:10])
    assert _read_all(file) == ["one"]
    with path.open("ab") as events:
        events.write(_line("two")[10:])
    assert _read_all(file) == ["two"]
    assert _read_all(file) == []


def test_what_is_no_event_is_left_out(tmp_path):
    path = tmp_path / "events.jsonl"
    state = b'{"kind": "state", "state": "succeeded", "attempt": 1}\n'
    path.write_bytes(b"{\n\n\xff\xfe\n" + state + _line("x" * module.LINE_BYTES) + b"null\n" + _line("kept"))
    assert _read_all(EventFile(path)) == ["kept"]


def test_a_line_that_never_ends_is_not_kept_in_memory(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(_line("before") + b"y" * (5 << 20))
    file = EventFile(path)
    assert _read_all(file) == ["before"]
    assert len(file._rest) <= module.LINE_BYTES
    with path.open("ab") as events:
        events.write(b"\n" + _line("after"))
    assert _read_all(file) == ["after"]


def test_links_and_pipes_are_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(_line("secret"))
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    os.mkfifo(tmp_path / "pipe")
    assert _read_all(EventFile(tmp_path / "link")) == []
    assert _read_all(EventFile(tmp_path / "pipe")) == []


def test_a_file_longer_than_anybody_needs_is_read_to_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "events.jsonl"
    path.write_bytes(_line("z") * 100)
    monkeypatch.setattr(module, "FILE_BYTES", 10 * len(_line("z")))
    assert len(_read_all(EventFile(path))) == 10


class _Table:
    """Takes events, now and then not."""

    def __init__(self, *answers: bool | Exception) -> None:
        self.answers = list(answers)
        self.messages: list[str] = []
        self.noted: list[tuple[str, int]] = []  # checkpoints, and how many messages came before

    def note(self, told: Checkpointed) -> None:
        self.noted.append((told.part, len(self.messages)))

    def append(self, events) -> bool:
        answer = self.answers.pop(0) if self.answers else True
        if isinstance(answer, Exception):
            raise answer
        if "poison" in [event.message for event in events]:
            raise ValueError("the database does not like this one")
        self.messages += [event.message for event in events]
        return answer


def _relayed(path, table) -> list[str]:
    relay = Relay(path, table.append, table.note)
    relay.start()
    relay.finish()
    assert relay.finished(30)
    return table.messages


def test_every_event_arrives_once_and_in_order_though_the_database_goes_away(tmp_path):
    path = tmp_path / "events.jsonl"
    messages = [str(number) for number in range(1000)]
    path.write_bytes(b"".join(map(_line, messages)))
    away = OperationalError("", {}, Exception())
    assert _relayed(path, _Table(True, away, away, True, away)) == messages


def test_a_batch_that_may_have_been_written_is_tried_again_as_it_was(tmp_path):
    """With what came since, nobody could tell what of it is there."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(_line("first"))
    tried = []

    def append(events) -> bool:
        tried.append([event.message for event in events])
        if len(tried) == 1:
            with path.open("ab") as file:
                file.write(_line("second"))
            raise OperationalError("COMMIT", {}, Exception())
        return True

    relay = Relay(path, append, lambda _: None)
    relay.start()
    relay.finish()
    assert relay.finished(30)
    assert tried == [["first"], ["first"], ["second"]]


def test_an_event_that_the_database_refuses_takes_no_other_with_it(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(map(_line, ["a", "b", "poison", "c"])))
    assert _relayed(path, _Table()) == ["a", "b", "c"]


def test_beside_a_refused_event_the_parts_of_a_batch_are_tried_again_as_they_were(tmp_path):
    """What is not known to be written is tried alone: with more, it would be taken for more."""
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(map(_line, ["a", "b", "c", "poison"])))
    table, tried = _Table(), []

    def append(events) -> bool:
        tried.append("".join(event.message[0] for event in events))
        if tried == ["abcp", "ab"]:
            raise OperationalError("COMMIT", {}, Exception())
        return table.append(events)

    relay = Relay(path, append, lambda _: None)
    relay.start()
    relay.finish()
    assert relay.finished(30)
    assert tried == ["abcp", "ab", "ab", "cp", "c", "p"]
    assert table.messages == ["a", "b", "c"]


def test_nothing_is_written_once_the_job_is_lost(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(_line(str(number)) for number in range(1000)))
    table = _Table(False)
    assert len(_relayed(path, table)) == module.BATCH_EVENTS  # the refused batch; none after it
    assert table.answers == []


def test_checkpoints_are_told_of_behind_what_came_before_them_and_are_no_events(tmp_path):
    path = tmp_path / "events.jsonl"
    steps, training = (f'{{"kind": "checkpoint", "part": "{part}"}}\n'.encode() for part in ("steps", "training"))
    unknown = b'{"kind": "checkpoint", "part": "../../etc"}\n'
    path.write_bytes(steps + _line("a") + _line("b") + training + unknown + training)
    table = _Table()
    assert _relayed(path, table) == ["a", "b"]
    assert [part for part, _ in table.noted] == ["steps", "training", "training"]
    assert table.noted[1][1] == 2


def test_a_training_is_at_work_when_the_newest_progress_has_an_epoch(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(_progress(epoch=1))
    relay = Relay(path, lambda _: True, lambda _: None)
    assert not relay.is_training
    relay.start()
    relay.finish()
    assert relay.finished(30)
    assert relay.is_training
    path.write_bytes(_progress(epoch=1) + _progress(epoch=None))
    relay = Relay(path, lambda _: True, lambda _: None)
    relay.start()
    relay.finish()
    assert relay.finished(30)
    assert not relay.is_training


def _progress(*, epoch: int | None) -> bytes:
    said = {"kind": "progress", "stage": "step", "step": 0, "steps": 1, "fraction": 0.5, "epoch": epoch}
    return json.dumps(said).encode() + b"\n"
