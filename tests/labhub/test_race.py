"""Many at once: of commits on one parent exactly one wins, of others none is lost, and no reader sees half of one."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

from anthology_hub.labhub.store import Store
from anthology_hub.labhub.upkeep import backup, fsck, gc
from tests.labhub.conftest import Person

WRITERS = 16


def at_once(work):
    """Do the same in many threads that start together; return what each returned."""
    barrier = Barrier(WRITERS)

    def one(number):
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(WRITERS) as pool:
        return list(pool.map(one, range(WRITERS)))


def test_of_many_commits_on_one_parent_exactly_one_wins(hub, lab):
    lab.create("lab/people")
    for round_ in range(5):
        parent = lab.get("/api/datasets/lab/people").json["sha"]
        replies = at_once(lambda n: lab.commit("lab/people", {f"f/{round_}-{n}": b"%d" % n}, parentCommit=parent))  # noqa: B023
        assert sorted(reply.status for reply in replies) == [200] + [412] * (WRITERS - 1)
        (winner,) = [number for number, reply in enumerate(replies) if reply.status == 200]
        items = lab.get("/api/datasets/lab/people/tree/main/f").json
        assert len(items) == round_ + 1
        assert f"f/{round_}-{winner}" in [item["path"] for item in items]
    assert fsck(hub.store).problems == ()


def test_of_many_commits_without_a_parent_none_is_lost(hub, lab):
    lab.create("lab/people")
    replies = at_once(lambda n: lab.commit("lab/people", {f"runs/{n}": b"%d" % n, "last": b"%d" % n}))
    assert [reply.status for reply in replies] == [200] * WRITERS
    assert [item["path"] for item in lab.get("/api/datasets/lab/people/tree/main/runs").json] == sorted(
        f"runs/{number}" for number in range(WRITERS)
    )
    commits = lab.get("/api/datasets/lab/people/commits/main?limit=50").json
    assert {commit["id"] for commit in commits[:WRITERS]} == {reply.json["commitOid"] for reply in replies}
    assert lab.get("/datasets/lab/people/resolve/main/last").body.decode() == str(
        next(number for number, reply in enumerate(replies) if reply.json["commitOid"] == commits[0]["id"])
    )


def test_of_many_who_make_the_same_repository_tag_or_pull_request_number_one_has_it(hub, lab):
    assert sorted(reply.status for reply in at_once(lambda n: lab.create("lab/people"))) == [200] + [409] * (
        WRITERS - 1
    )
    tags = at_once(lambda n: lab.post("/api/datasets/lab/people/tag/main", {"tag": "v1"}))
    assert sorted(reply.status for reply in tags) == [200] + [409] * (WRITERS - 1)
    pulls = at_once(lambda n: lab.commit("lab/people", {f"f/{n}": b"x"}, create_pr=True))
    numbers = sorted(int(reply.json["pullRequestUrl"].rpartition("/")[2]) for reply in pulls)
    assert numbers == list(range(1, WRITERS + 1))
    merged = at_once(lambda n: lab.post(f"/api/datasets/lab/people/discussions/{n + 1}/merge"))
    assert [reply.status for reply in merged] == [200] * WRITERS
    assert len(lab.get("/api/datasets/lab/people/tree/main/f").json) == WRITERS


def test_a_reader_sees_all_files_of_a_commit_or_none(hub, lab):
    lab.create("lab/people")
    done = Event()

    def read(_):
        seen = set()
        while not done.is_set():
            head = lab.get("/api/datasets/lab/people").json["sha"]
            items = [
                i["path"]
                for i in lab.get(f"/api/datasets/lab/people/tree/{head}?recursive=1").json
                if i["type"] == "file"
            ]
            seen.add(frozenset(items) - {".gitattributes"})
        return seen

    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read, number) for number in range(2)]
        for number in range(20):
            lab.commit("lab/people", {f"{number}/{part}": b"x" for part in "abc"})
        done.set()
    whole = [frozenset(f"{number}/{part}" for number in range(upto) for part in "abc") for upto in range(21)]
    assert all(reader.result() <= set(whole) for reader in readers)


def test_backups_and_collections_during_commits_harm_nothing(hub, lab, tmp_path):
    lab.create("lab/people")
    other = Store(hub.store.root)
    done = Event()

    def keep_house():
        rounds = 0
        while not done.is_set():
            gc(other, grace=3600)
            backup(other, tmp_path / "copy")
            copy = Store(tmp_path / "copy")
            assert fsck(copy).problems == ()
            copy.close()
            rounds += 1
        return rounds

    with ThreadPoolExecutor(1) as pool:
        house = pool.submit(keep_house)
        try:
            for number in range(40):
                assert lab.commit("lab/people", {f"{number}/a": b"%d" % number, "same": b"x"}).status == 200
                assert Person(hub.url).get("/datasets/lab/people/resolve/main/same").body == b"x"
        finally:
            done.set()
        assert house.result() > 0
    other.close()
    assert fsck(hub.store).problems == ()
    assert len([1 for path, _ in hub.store.files(hub.store.resolve(hub.store.repos()[0]))]) == 42
