"""What every store promises, held against each of them."""

from __future__ import annotations

import hashlib
import os
import string
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from storage import s3, spool
from storage.local import LocalStore
from storage.store import SHARDS, Corrupt, NotAHash, NotStored, Store, StoreUnavailable
from tests.conftest import OpenStore
from tests.support.stores import put

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


class TestStore:
    def test_committed_bytes_come_back(self, store: Store, open_one: OpenStore) -> None:
        with store.open_writer() as writer:
            writer.write(b"a")
            writer.write(memoryview(b"bc"))
            assert (writer.size, writer.sha256) == (3, ABC)
            assert writer.path.read_bytes() == b"abc"
            stored = writer.commit()
        assert (stored.sha256, stored.size) == (ABC, 3)
        again = open_one()
        assert again.exists(ABC)
        assert again.size(ABC) == 3
        assert b"".join(again.read(ABC)) == b"abc"

    def test_an_empty_object_is_an_object(self, store: Store) -> None:
        assert put(store, b"") == EMPTY
        assert store.size(EMPTY) == 0
        assert b"".join(store.read(EMPTY)) == b""

    def test_a_file_of_many_pieces(self, store: Store, tmp_path: Path) -> None:
        content = hashlib.shake_256(b"0").digest(20_000_001)
        source = tmp_path / "source"
        source.write_bytes(content)
        stored = store.put_file(source)
        assert stored.sha256 == hashlib.sha256(content).hexdigest()
        assert stored.size == len(content)
        pieces = list(store.read(stored.sha256))
        assert len(pieces) > 1
        assert b"".join(pieces) == content
        assert source.read_bytes() == content

    @pytest.mark.parametrize(
        ("start", "end"), [(0, None), (0, 1), (5, 5), (3, 9), (999_999, 2_500_000), (2_999_999, None), (10, 10**9)]
    )
    def test_a_range(self, store: Store, start: int, end: int | None) -> None:
        content = hashlib.shake_256(b"1").digest(3_000_000)
        sha256 = put(store, content)
        assert b"".join(store.read(sha256, start, end)) == content[start:end]

    def test_a_range_past_the_end_is_empty(self, store: Store) -> None:
        assert list(store.read(put(store, b"abc"), 3)) == []
        assert list(store.read(put(store, b"abc"), 7, 9)) == []

    def test_a_range_before_the_start_is_refused(self, store: Store) -> None:
        sha256 = put(store, b"abc")
        with pytest.raises(ValueError, match="never negative"):
            store.read(sha256, -1)
        with pytest.raises(ValueError, match="never negative"):
            store.read(sha256, 0, -1)

    def test_nothing_is_visible_before_the_commit(self, store: Store) -> None:
        with store.open_writer() as writer:
            writer.write(b"abc")
            assert not store.exists(ABC)
        assert not store.exists(ABC)

    def test_a_broken_off_write_leaves_nothing(self, store: Store) -> None:
        paths: list[Path] = []

        def break_off() -> None:
            with store.open_writer() as writer:
                paths.append(writer.path)
                writer.write(b"abc")
                raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            break_off()
        assert not store.exists(ABC)
        assert not paths[0].exists()

    def test_the_same_bytes_twice_are_one(self, store: Store) -> None:
        assert put(store, b"abc") == put(store, b"abc") == ABC
        store.delete(ABC)
        assert not store.exists(ABC)

    def test_bytes_deleted_between_prepare_and_commit_are_there_all_the_same(self, store: Store) -> None:
        with store.open_writer() as writer:
            writer.write(b"abc")
            writer.prepare()
            store.delete(ABC)
            writer.commit()
        assert b"".join(store.read(ABC)) == b"abc"

    def test_the_same_bytes_at_once(self, store: Store) -> None:
        content = hashlib.shake_256(b"2").digest(1_000_000)
        hashes: list[str] = []
        threads = [threading.Thread(target=lambda: hashes.append(put(store, content))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert hashes == [hashlib.sha256(content).hexdigest()] * 8
        assert b"".join(store.read(hashes[0])) == content

    def test_fetch_lays_a_file_of_its_own(self, store: Store, tmp_path: Path) -> None:
        put(store, b"abc")
        target = tmp_path / "laid"
        store.fetch(ABC, target)
        assert target.read_bytes() == b"abc"
        target.write_bytes(b"changed")
        assert b"".join(store.read(ABC)) == b"abc"
        assert list(tmp_path.glob("*.part")) == []

    def test_nothing_stored_is_said(self, store: Store, tmp_path: Path) -> None:
        assert not store.exists(ABC)
        for ask in (store.size, store.look, store.read):
            with pytest.raises(NotStored, match=ABC):
                ask(ABC)
        with pytest.raises(NotStored, match=ABC):
            store.fetch(ABC, tmp_path / "laid")
        assert not (tmp_path / "laid").exists()

    def test_delete_twice(self, store: Store) -> None:
        put(store, b"abc")
        store.delete(ABC)
        store.delete(ABC)
        assert not store.exists(ABC)

    def test_what_it_keeps_is_listed_by_what_hashes_begin_with(self, store: Store) -> None:
        """FIPS 180-2's `abc`, and 39 hashes of numbers, of which two begin alike."""
        hashes = {put(store, content) for content in (b"abc", *(str(number).encode() for number in range(39)))}
        listed = {shard: list(store.list_shard(shard)) for shard in {sha256[:2] for sha256 in hashes} | {"00"}}
        assert store.shards() == {sha256[:2] for sha256 in hashes}
        assert {kept.sha256 for shard in listed.values() for kept in shard} == hashes
        assert all(kept.sha256.startswith(shard) for shard, found in listed.items() for kept in found)
        assert {kept.sha256: kept.size for kept in listed[ABC[:2]]}[ABC] == 3
        assert store.look(ABC) in listed[ABC[:2]]

    def test_every_hash_begins_with_one_of_the_shards(self) -> None:
        assert set(SHARDS) == {a + b for a in string.hexdigits.lower() for b in string.hexdigits.lower()}

    def test_an_object_is_as_old_as_the_store_says(self, store: Store) -> None:
        before = store.now() - timedelta(seconds=2)  # S3 tells whole seconds
        put(store, b"abc")
        assert before < store.look(ABC).put_at < store.now() + timedelta(seconds=2)

    def test_an_old_object_that_is_put_again_is_young(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        put(store, b"abc")
        if isinstance(store, LocalStore):
            os.utime(store.local_path(ABC), (1_000_000_000, 1_000_000_000))
        else:
            monkeypatch.setattr(s3, "RENEW_SECONDS", 0.0)
            time.sleep(1.1)  # S3 tells whole seconds
        put_at = store.look(ABC).put_at
        put(store, b"abc")
        assert store.look(ABC).put_at > put_at

    def test_a_turn_is_taken_once(self, store: Store, open_one: OpenStore) -> None:
        assert store.take_turn(3600)
        assert not store.take_turn(3600)
        assert not open_one().take_turn(3600)
        assert open_one().take_turn(0)

    def test_whose_it_is_is_remembered(self, store: Store, open_one: OpenStore) -> None:
        assert store.owner() is None
        store.set_owner("team_a")
        assert open_one().owner() == "team_a"
        open_one().set_owner("team_b")
        assert store.owner() == "team_b"
        assert list(store.shards()) == []

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "abc",
            "../" * 3 + "etc/passwd",
            ABC + "/../x",
            ABC.upper(),
            ABC[:-1],
            ABC + "0",
            "/" + ABC[1:],
            ABC + "\n",
        ],
    )
    def test_path_traversal(self, store: Store, tmp_path: Path, name: str) -> None:
        for ask in (store.exists, store.size, store.look, store.read, store.local_path, store.delete):
            with pytest.raises(NotAHash):
                ask(name)
        with pytest.raises(NotAHash):
            store.fetch(name, tmp_path / "laid")
        assert not (tmp_path / "laid").exists()

    def test_a_healthy_store_passes_its_check(self, store: Store) -> None:
        store.check()

    def test_sweep_takes_old_leftovers_only(self, store: Store) -> None:
        with store.open_writer() as writer, store.open_writer() as fresh:
            os.utime(writer.path, (1_000_000_000, 1_000_000_000))
            fresh.write(b"abc")
            put(store, b"kept")
            assert store.sweep(older_than_seconds=3600) == 1
            assert not writer.path.exists()
            assert fresh.commit().sha256 == ABC
        assert store.exists(hashlib.sha256(b"kept").hexdigest())


def test_a_changed_object_is_not_laid(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    put(store, b"abc")
    path = store.local_path(ABC)
    path.chmod(0o600)
    path.write_bytes(b"abd")
    with pytest.raises(Corrupt, match=ABC):
        store.fetch(ABC, tmp_path / "laid")
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_a_file_that_was_read_wrong_once_is_laid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path / "store")
    put(store, b"abc")
    reads = [b"ab", b"abc"]
    monkeypatch.setattr(spool, "pieces_of", lambda path: iter([reads.pop(0)]))
    store.fetch(ABC, tmp_path / "laid")
    assert reads == []
    assert (tmp_path / "laid").read_bytes() == b"abc"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["laid", "store"]


def test_a_disk_that_keeps_less_than_it_was_given_is_said(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    with store.open_writer() as writer:
        writer.write(b"abc")
        os.truncate(writer.path, 2)
        with pytest.raises(StoreUnavailable, match="kept 2 of 3 bytes"):
            writer.commit()
    assert not store.exists(ABC)


def test_a_store_whose_folder_is_gone_says_so(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    store.check()
    (tmp_path / "store").rename(tmp_path / "gone")
    with pytest.raises(StoreUnavailable, match=r"store/objects"):
        store.check()
    with pytest.raises(StoreUnavailable):
        store.size(ABC)
    with pytest.raises(StoreUnavailable), store.open_writer():
        pass
    assert not (tmp_path / "store").exists()
