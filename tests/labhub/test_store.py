"""A store keeps what it was given, tells apart who may do what, checks itself, and frees only what nothing names."""

import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha1, sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anthology_hub.errors import DataError, IntegrityError, OptionError, UnknownNameError
from anthology_hub.labhub import trees
from anthology_hub.labhub.accounts import Viewer
from anthology_hub.labhub.discussions import Discussions
from anthology_hub.labhub.store import Change, Refusal, Store
from anthology_hub.labhub.trees import Leaf
from anthology_hub.labhub.upkeep import backup, fsck, gc


def put(store, repo, files, **options):
    """Commit small files; None deletes."""
    changes = [Change(path=p, leaf=None) if data is None else store.file(p, data) for p, data in files.items()]
    return store.commit(
        repo, options.pop("revision", "main"), changes, **{"title": "Change", "author": "lab"} | options
    )


def contents(store, commit):
    return {path: store.blobs.read(leaf.sha256) for path, leaf in store.files(commit) if path != ".gitattributes"}


@pytest.fixture
def repo(store):
    return store.create_repo("dataset", "lab", "people", author="lab")


def refused(status, part):
    return pytest.raises(Refusal, match=part, check=lambda refusal: refusal.status == status)


# -- trees

NAMES = st.sampled_from(["a", "b", "c", "d"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
STEPS = st.lists(st.tuples(PATHS, st.none() | st.integers(0, 9)), max_size=25)


def leaf(number):
    return Leaf(f"{number:040x}", number, f"{number:064x}", False)


class Shelf:
    """Tree objects in memory, counting what is written."""

    def __init__(self):
        self.data = {}

    def load(self, oid):
        return trees.unpack(self.data[oid])

    def save(self, tree):
        oid, data = trees.pack(tree)
        self.data[oid] = data
        return oid


@given(STEPS)
def test_a_tree_is_what_a_plain_mapping_of_paths_would_be(steps):
    shelf, plain = Shelf(), {}
    oid = shelf.save({})
    for path, number in steps:
        draft = trees.Draft(shelf.load, oid)
        if number is None:
            inside = [known for known in plain if known == path or known.startswith(f"{path}/")]
            assert draft.remove(path) == bool(inside)
            for known in inside:
                del plain[known]
        elif any(known.startswith(f"{path}/") or path.startswith(f"{known}/") for known in plain):
            with pytest.raises(DataError):
                draft.put(path, leaf(number))
            continue
        else:
            draft.put(path, leaf(number))
            plain[path] = leaf(number)
        oid = draft.save(shelf.save)
    found = {path: node for path, node in trees.walk(shelf.load, oid) if isinstance(node, Leaf)}
    assert found == plain
    assert all(trees.find(shelf.load, oid, path) == node for path, node in plain.items())


@given(st.dictionaries(NAMES, st.integers(0, 3)), st.dictionaries(NAMES, st.integers(0, 3)))
def test_comparing_two_trees_tells_exactly_what_differs(old, new):
    shelf = Shelf()
    sides = []
    for files in (old, new):
        draft = trees.Draft(shelf.load, None)
        for name, number in files.items():
            draft.put(f"folder-{name}/file", leaf(number))
        sides.append(draft.save(shelf.save))
    told = {path: (before, after) for path, before, after in trees.compare(shelf.load, *sides)}
    expected = {
        f"folder-{name}/file": tuple(leaf(side[name]) if name in side else None for side in (old, new))
        for name in {*old, *new}
        if old.get(name) != new.get(name)
    }
    assert told == expected


def test_one_changed_file_among_ten_thousand_writes_only_its_own_folders():
    shelf = Shelf()
    draft = trees.Draft(shelf.load, None)
    for number in range(10_000):
        draft.put(f"part-{number // 100}/file-{number}", leaf(number))
    oid = draft.save(shelf.save)
    before = set(shelf.data)
    draft = trees.Draft(shelf.load, oid)
    draft.put("part-7/file-700", leaf(1))
    draft.save(shelf.save)
    assert len(before) == 101
    assert len(set(shelf.data) - before) == 2


@pytest.mark.parametrize(
    "path",
    ["", "/a", "a/", "a//b", ".", "..", "a/../b", "a/./b", "a\\b", "a\0b", "a\nb", "\x7f", ".git/config", "x/.GIT",
     "\ud800", "n" * 256, "é" * 128, "/".join("a" * 41), "/".join(["n" * 250] * 5)],
)  # fmt: skip
def test_a_path_that_leads_elsewhere_or_fits_no_disk_is_refused_with_the_rule(path, store):
    with pytest.raises(DataError) as caught:
        store.file(path, b"")
    said = str(caught.value)
    assert said.startswith("the path ") and "is not allowed: allowed are relative paths" in said
    assert said.endswith("rename the file") and len(said) < 600


@pytest.mark.parametrize(
    "path", ["a", "a/b.c", "..a", "a..", ".gitignore", "über/straße.txt", "日本/語", "a b", "-", "é" * 127]
)
def test_an_ordinary_path_is_taken_as_it_is(path):
    assert trees.checked(path) == path


# -- repositories


def test_a_new_repository_has_one_commit_that_declares_its_large_files(store, repo):
    head = store.resolve(repo)
    assert (repo.full_name, repo.path, repo.private, repo.gated) == ("lab/people", "datasets/lab/people", False, "")
    assert [commit.title for commit in store.history(head)] == ["initial commit"]
    assert b"*.parquet filter=lfs" in store.read(head, ".gitattributes")
    assert store.find("dataset", "lab", "people") == repo
    assert store.find("model", "lab", "people") is None


def test_the_same_name_is_taken_once_for_each_kind(store, repo):
    assert store.create_repo("model", "lab", "people", author="lab").path == "lab/people"
    with refused(409, "the dataset lab/people exists already: choose another name"):
        store.create_repo("dataset", "lab", "people", author="lab")
    assert [found.kind for found in store.repos()] == ["model", "dataset"]
    assert [found.kind for found in store.repos("dataset")] == ["dataset"]


@pytest.mark.parametrize("name", ["", ".x", "-x", "a--b", "a..b", "x.git", "a/b", "a b", "x" * 97, "ü", "a\n", "x."])
def test_a_repository_name_that_does_not_fit_in_an_address_is_refused(store, name):
    with pytest.raises(OptionError, match="name .* is not allowed: allowed are at most 96 letters.*choose another"):
        store.create_repo("dataset", "lab", name, author="lab")
    assert store.repos() == []


def test_a_kind_or_namespace_that_cannot_be_is_refused(store):
    with refused(400, "no repositories of type 'bucket': choose one of model, dataset, space"):
        store.create_repo("bucket", "lab", "x", author="lab")
    repo, said = (
        store.create_repo("model", "lab", "x", author="lab"),
        "is part of the hub's own addresses: choose another",
    )
    with pytest.raises(OptionError, match=f"the namespace name 'api' {said}"):
        store.create_repo("model", "api", "x", author="lab")
    with pytest.raises(OptionError, match=f"the namespace name 'datasets' {said}"):
        store.move_repo(repo, "datasets", "x")


def test_a_moved_repository_keeps_all_it_has(store, repo):
    commit = put(store, repo, {"a": b"1"})
    other = store.create_repo("dataset", "lab", "other", author="lab")
    with refused(409, "lab/other exists already"):
        store.move_repo(repo, "lab", "other")
    store.move_repo(repo, "org", "renamed")
    moved = store.find("dataset", "org", "renamed")
    assert store.find("dataset", "lab", "people") is None
    assert store.resolve(moved) == commit
    assert contents(store, store.resolve(other)) == {}


def test_a_list_of_repositories_bears_that_one_is_deleted_meanwhile(store, repo):
    other = store.create_repo("dataset", "lab", "other", author="lab")
    listed = store.repos()
    store.delete_repo(repo)
    assert store.heads(listed) == [(other, store.resolve(other))]


def test_a_deleted_repository_is_gone_and_a_new_one_of_its_name_begins_anew(store, repo):
    put(store, repo, {"a": b"1"})
    Discussions(store).open(repo, title="t", description="d", author="lab")
    store.delete_repo(repo)
    assert store.find("dataset", "lab", "people") is None
    again = store.create_repo("dataset", "lab", "people", author="lab")
    assert contents(store, store.resolve(again)) == {}
    assert Discussions(store).all(again) == []


# -- commits


def test_a_commit_changes_what_it_names_and_leaves_the_rest(store, repo):
    first = put(store, repo, {"a": b"1", "f/b": b"2", "f/c": b"3"}, title="First", message="Why", author="ada")
    second = put(store, repo, {"a": b"one", "f/b": None}, parent=first.sha)
    assert contents(store, first) == {"a": b"1", "f/b": b"2", "f/c": b"3"}
    assert contents(store, second) == {"a": b"one", "f/c": b"3"}
    assert second.parent == first.sha
    assert (first.title, first.message, first.author) == ("First", "Why", "ada")
    assert [commit.sha for commit in store.history(second)][:2] == [second.sha, first.sha]


def test_an_emptied_folder_is_no_more(store, repo):
    put(store, repo, {"f/g/a": b"1"})
    commit = put(store, repo, {"f/g/a": None})
    assert store.entry(commit, "f") is None
    with refused(404, "there is no folder 'f' at this revision"):
        store.listing(commit, "f")


def test_a_folder_is_deleted_with_all_below(store, repo):
    put(store, repo, {"f/a": b"1", "f/g/b": b"2", "x": b"3"})
    assert contents(store, put(store, repo, {"f": None})) == {"x": b"3"}


def test_files_have_the_ids_that_git_gives_them(store, repo):
    commit = put(store, repo, {"a": b"hello\n"})
    assert store.entry(commit, "a").oid == "ce013625030ba8dba906f756967f9e9ca394464a"
    data = b"x" * 100
    store.blobs.put(data)
    large = store.large_file("b.bin", sha256(data).hexdigest(), 100)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256(data).hexdigest()}\nsize 100\n".encode()
    assert large.leaf.oid == sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest()


def test_a_stale_parent_is_refused_and_nothing_of_the_commit_remains(store, repo):
    old = store.resolve(repo)
    new = put(store, repo, {"a": b"1"})
    with refused(412, f"A commit has happened since {old.sha}.*refs/heads/main is at {new.sha}"):
        put(store, repo, {"b": b"2"}, parent=old.sha)
    assert store.resolve(repo) == new


@pytest.mark.parametrize(
    ("files", "error", "said"),
    [
        ({"b": b"2", "nowhere": None}, Refusal, "A file with this name doesn't exist: nowhere"),
        ({"b": b"2", "a/below": b"3"}, DataError, "'a' in 'a/below' is not a folder here: give another path"),
        ({"b": b"2", "f": b"3"}, DataError, "'f' is a folder here: give the file another name, or delete the folder"),
        ({"b": b"2", "a/x": None}, Refusal, "A file with this name doesn't exist: a/x"),
    ],
)
def test_a_commit_of_which_one_line_cannot_be_done_does_nothing(store, repo, files, error, said):
    before = put(store, repo, {"a": b"1", "f/g": b"2"})
    with pytest.raises(error, match=said):
        put(store, repo, files)
    assert store.resolve(repo) == before


@pytest.mark.parametrize(("size", "state"), [(5, "is not stored"), (6, "has 5 bytes, not 6")])
def test_a_commit_may_only_name_blobs_that_are_stored_with_the_size_it_says(store, repo, size, state):
    if size == 6:
        store.blobs.put(b"12345")
    name = sha256(b"12345").hexdigest()
    with refused(400, f"the LFS object {name} {state}: upload the file again"):
        store.commit(repo, "main", [store.large_file("a.bin", name, size)], title="t", author="lab")


def test_only_branches_and_pull_requests_take_commits(store, repo):
    sha = store.resolve(repo).sha
    store.create_ref(repo, "refs/tags/v1", "main")
    for revision in (sha, "v1", "refs/tags/v1"):
        with refused(400, "is not a branch: only branches and refs/pr/N take commits"):
            put(store, repo, {"a": b"1"}, revision=revision)
    with refused(404, "Invalid rev id: nowhere"):
        put(store, repo, {"a": b"1"}, revision="nowhere")


def test_a_revision_is_found_by_branch_tag_full_name_and_beginning_of_a_commit_id(store, repo):
    commit = put(store, repo, {"a": b"1"})
    store.create_ref(repo, "refs/heads/dev/one", "main")
    store.create_ref(repo, "refs/tags/v1.0.0", commit.sha)
    for revision in (
        "main",
        "HEAD",
        "dev/one",
        "refs/heads/dev/one",
        "v1.0.0",
        "refs/tags/v1.0.0",
        commit.sha,
        commit.sha[:7],
    ):
        assert store.resolve(repo, revision).sha == commit.sha, revision
    for revision in (commit.sha[:6], "g" * 40, "", "refs/convert/parquet", "main\0", "%"):
        with refused(404, "Invalid rev id"):
            store.resolve(repo, revision)


def test_a_tag_stays_when_its_branch_moves_and_is_never_moved(store, repo):
    commit = put(store, repo, {"a": b"1"})
    assert store.create_ref(repo, "refs/tags/v1", "main", message="First").sha == commit.sha
    put(store, repo, {"a": b"2"})
    with refused(409, "refs/tags/v1 exists already: delete it first or choose another"):
        store.create_ref(repo, "refs/tags/v1", "main")
    assert store.resolve(repo, "v1").sha == commit.sha
    assert [(ref.name, ref.short, ref.message) for ref in store.refs(repo, "refs/tags/")] == [
        ("refs/tags/v1", "v1", "First")
    ]
    store.delete_ref(repo, "refs/tags/v1")
    with refused(404, "there is no reference refs/tags/v1"):
        store.delete_ref(repo, "refs/tags/v1")


@pytest.mark.parametrize(
    "name", ["", "a b", "a..b", "a~1", "a^", "a:b", "a?", "*", "[a", "a\\b", "/a", "a/", "a//b", "a.lock", "-a", ".a",
             "a/.b", "a@{1}", "HEAD", "refs/x", "f" * 40, "n" * 201, "a.", "a\x7f"]
)  # fmt: skip
def test_a_branch_name_that_git_would_not_take_or_that_looks_like_a_commit_is_refused(store, repo, name):
    with refused(400, "is not allowed for a branch or tag: allowed are at most 200 characters.*choose another"):
        store.create_ref(repo, f"refs/heads/{name}", "main")


def test_the_main_branch_stays(store, repo):
    with refused(403, "the branch main cannot be deleted: delete the repository instead"):
        store.delete_ref(repo, "refs/heads/main")


def test_a_squashed_branch_has_the_same_files_and_one_commit(store, repo):
    for number in range(3):
        last = put(store, repo, {f"f/{number}": b"%d" % number})
    squashed = store.squash(repo, "main", title="All", author="ada")
    assert contents(store, squashed) == contents(store, last) == {"f/0": b"0", "f/1": b"1", "f/2": b"2"}
    assert [commit.title for commit in store.history(store.resolve(repo))] == ["All"]
    assert store.resolve(repo, last.sha).sha == last.sha


def test_the_last_change_of_a_path_is_found_through_the_history(store, repo):
    first = put(store, repo, {"a": b"1", "f/b": b"1"})
    second = put(store, repo, {"f/b": b"2"})
    third = put(store, repo, {"x": b"3"})
    found = store.last_changes(third, ["a", "f/b", "f", "x"])
    assert {path: commit.sha for path, commit in found.items()} == {
        "a": first.sha, "f/b": second.sha, "f": second.sha, "x": third.sha
    }  # fmt: skip


# -- rights


def test_a_token_stands_for_its_account_until_it_is_revoked(store):
    secret = store.accounts.add_token("ada", "read", label="laptop")
    other = store.accounts.add_token("ada")
    assert store.accounts.who(secret) == Viewer(name="ada", role="read")
    assert store.accounts.who(secret + "x") is store.accounts.who("") is None
    store.accounts.revoke(store.accounts.tokens()[0].id)
    assert store.accounts.who(secret) is None
    assert store.accounts.who(other) == Viewer(name="ada", role="write")
    assert [(token.account, token.role, token.label, token.revoked is None) for token in store.accounts.tokens()] == [
        ("ada", "read", "laptop", False), ("ada", "write", "", True)
    ]  # fmt: skip


def test_no_file_of_a_store_holds_a_secret_and_only_its_owner_reads_the_database(store):
    secret = store.accounts.add_token("ada")
    store.close()
    for file in store.root.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes()
    for file in (store.root, store.root / "hub.db", store.blobs.path(store.blobs.put(b"private"))):
        assert file.stat().st_mode & 0o077 == 0


def test_what_cannot_be_in_accounts_is_refused_with_what_can(store):
    with pytest.raises(OptionError, match="the role 'owner' is not allowed: choose one of read, write, admin"):
        store.accounts.add_token("ada", "owner")
    with pytest.raises(OptionError, match="the role 'admin' is not allowed for a member: choose one of read, write"):
        store.accounts.add_member("lab", "ada", role="admin")
    with pytest.raises(OptionError, match="'datasets' is part of the hub's own addresses"):
        store.accounts.add_token("datasets")
    with pytest.raises(OptionError, match="'api' is part of the hub's own addresses"):
        store.accounts.add_member("api", "ada")
    with pytest.raises(OptionError, match="the account name 'a b' is not allowed"):
        store.accounts.add_token("a b")
    with pytest.raises(UnknownNameError, match="unknown token 9: Allowed: none"):
        store.accounts.revoke(9)
    with pytest.raises(UnknownNameError, match="unknown member of lab 'bob': Allowed: none"):
        store.accounts.remove_member("lab", "bob")


OWNER, MEMBER, READER, STRANGER = (Viewer(name=name, role="write") for name in ("lab", "member", "watcher", "stranger"))
ADMIN, READ_ONLY = Viewer(name="boss", role="admin"), Viewer(name="lab", role="read")


@pytest.mark.parametrize(
    ("viewer", "public", "private", "gated", "write"),
    [
        (None, True, False, False, False),
        (STRANGER, True, False, False, False),
        (READER, True, True, True, False),
        (READ_ONLY, True, True, True, False),
        (MEMBER, True, True, True, True),
        (OWNER, True, True, True, True),
        (ADMIN, True, True, True, True),
    ],
)
def test_rights_follow_from_token_membership_and_repository(store, viewer, public, private, gated, write):
    store.accounts.add_member("lab", "member")
    store.accounts.add_member("lab", "watcher", role="read")
    open_repo = store.create_repo("dataset", "lab", "open", author="lab")
    hidden = store.create_repo("dataset", "lab", "hidden", author="lab", private=True)
    store.set_gated(store.create_repo("dataset", "lab", "gated", author="lab"), "manual")
    behind = store.find("dataset", "lab", "gated")
    assert store.may_see(viewer, open_repo) == store.may_open(viewer, open_repo) == public
    assert store.may_see(viewer, hidden) == store.may_open(viewer, hidden) == private
    assert store.may_see(viewer, behind)
    assert store.may_open(viewer, behind) == gated
    assert store.may_write(viewer, open_repo) == write


def test_access_to_a_gated_repository_is_granted_and_taken_back(store, repo):
    store.set_gated(repo, "manual")
    gated = store.find("dataset", "lab", "people")
    for status, may in (("pending", False), ("accepted", True), ("rejected", False)):
        store.set_access(gated, "stranger", status)
        assert store.may_open(STRANGER, gated) == may
        assert store.access(gated)["stranger"][0] == status
    with refused(400, "gated='maybe' is not allowed: choose 'auto', 'manual' or false"):
        store.set_gated(gated, "maybe")


def test_a_private_repository_that_was_granted_stays_hidden(store, repo):
    store.set_gated(repo, "manual")
    store.set_private(repo, True)
    hidden = store.find("dataset", "lab", "people")
    store.set_access(hidden, "stranger", "accepted")
    assert not store.may_open(STRANGER, hidden)


def test_to_know_a_digest_is_no_right_to_the_content(store):
    store.accounts.add_member("lab", "member")
    data = b"private rows"
    secret = store.create_repo("dataset", "lab", "secret", author="lab", private=True)
    name = store.blobs.put(data)
    store.note_upload("lab", name)
    store.commit(secret, "main", [store.large_file("a.bin", name, len(data))], title="t", author="lab")
    assert store.holds(OWNER, name)
    assert store.holds(MEMBER, name)
    assert not store.holds(STRANGER, name)
    store.note_upload("stranger", name)
    assert store.holds(STRANGER, name)
    store.set_private(secret, False)
    assert store.holds(Viewer(name="another", role="read"), name)


# -- discussions


@pytest.fixture
def talks(store):
    return Discussions(store)


def test_a_discussion_keeps_what_was_said_in_order(talks, repo):
    num = talks.open(repo, title="Why?", description="So <few>", author="ada")
    said = talks.comment(repo, num, "Because", author="bob")
    talks.edit_comment(repo, num, said.id.upper(), author="bob", text="For cost")
    talks.rename(repo, num, "Why so few?", author="ada")
    talks.set_status(repo, num, "closed", author="bob")
    found = talks.get(repo, num)
    assert (found.num, found.title, found.status, found.is_pull_request, found.author) == (
        1,
        "Why so few?",
        "closed",
        False,
        "ada",
    )
    events = talks.events(repo, num)
    assert [(event.type, event.author) for event in events] == [
        ("comment", "ada"), ("comment", "bob"), ("title-change", "ada"), ("status-change", "bob")
    ]  # fmt: skip
    assert events[0].data["latest"]["html"] == "<p>So &lt;few&gt;</p>"
    assert events[1].data["latest"]["raw"] == "For cost" and events[1].data["edited"]
    assert [was["raw"] for was in events[1].data["history"]] == ["Because"]
    assert (events[2].data, events[3].data) == ({"from": "Why?", "to": "Why so few?"}, {"status": "closed"})


def test_a_comment_is_changed_by_its_author_only_and_hidden_with_its_text_kept(talks, repo):
    num = talks.open(repo, title="t", description="d", author="ada")
    said = talks.events(repo, num)[0]
    with refused(403, "the comment is by ada: only they may change it"):
        talks.edit_comment(repo, num, said.id, author="bob", text="x")
    with refused(404, "there is no comment 'none' in the discussion 1"):
        talks.edit_comment(repo, num, "none", author="ada", text="x")
    assert talks.edit_comment(repo, num, said.id, author="ada", text=None).data["hidden"]
    assert talks.events(repo, num)[0].data["latest"]["raw"] == "d"


def test_a_pull_request_is_invisible_on_main_until_it_is_merged(store, talks, repo):
    put(store, repo, {"a": b"1", "gone": b"2", "f/kept": b"3"})
    changes = [store.file("a", b"one\n"), store.file("new", b"4"), Change(path="gone", leaf=None)]
    num, commit = talks.propose(repo, changes, title="Better", message="Much", author="guest")
    more = talks.push(repo, num, [store.file("f/more", b"5")], title="More", message="", author="guest")
    put(store, repo, {"elsewhere": b"6"})
    pull = talks.get(repo, num)
    assert more.parent == commit.sha
    assert pull.status == "open" and talks.conflicts(repo, pull) == []
    merged = talks.merge(repo, num, author="lab")
    assert contents(store, merged) == {
        "a": b"one\n", "new": b"4", "f/kept": b"3", "f/more": b"5", "elsewhere": b"6"
    }  # fmt: skip
    assert merged.title == "Better (#1)"
    assert (talks.get(repo, num).status, talks.get(repo, num).merged) == ("merged", merged.sha)
    assert [event.type for event in talks.events(repo, num)] == ["comment", "commit", "commit", "status-change"]


def test_a_pull_request_shows_its_changes_as_git_would(store, talks, repo):
    data = b"\xff\xfe"
    put(store, repo, {"a": b"one\ntwo\n", "gone": b"x", "picture": b"\x89PNG\xff"})
    changes = [
        store.file("a", b"one\n2"),
        Change(path="gone", leaf=None),
        store.file("picture", data),
        store.file("n", b""),
    ]
    num, _ = talks.propose(repo, changes, title="t", message="", author="guest")
    assert talks.diff(repo, talks.get(repo, num)) == (
        "diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1,2 +1,2 @@\n one\n-two\n+2\n\\ No newline at end of file\n"
        "diff --git a/gone b/gone\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n\\ No newline at end of file\n"
        "diff --git a/n b/n\n"
        "diff --git a/picture b/picture\nBinary files a/picture and b/picture differ\n"
    )


def test_texts_that_are_costly_to_compare_are_shown_by_their_common_ends(store, talks, repo):
    lines = [f"{number % 100}" for number in range(4000)]
    junk = [line for number, line in enumerate(lines) for line in (line, f"z{number}")][:3990]
    before, after = [["first", *middle, "last", "end"] for middle in (lines, junk)]
    put(store, repo, {"a": "\n".join(before).encode(), "b": b"1\n2\n3\n"})
    changes = [store.file("a", "\n".join(after).encode()), store.file("b", b"1\n3\n")]
    num, _ = talks.propose(repo, changes, title="t", message="", author="guest")
    head, _, rest = talks.diff(repo, talks.get(repo, num)).partition("diff --git a/b b/b\n")
    assert head.splitlines() == [
        "diff --git a/a b/a", "--- a/a", "+++ b/a", "@@ -3,3999 +3,3989 @@",
        *(f"-{line}" for line in lines[1:]), *(f"+{line}" for line in junk[1:]),
    ]  # fmt: skip
    assert rest == "--- a/b\n+++ b/b\n@@ -1,3 +1,2 @@\n 1\n-2\n 3\n"


def test_a_long_diff_is_cut_and_says_so(store, talks, repo):
    files = [store.file(f"{name}.txt", bytes([65 + name]) * 700_000 + b"\n") for name in range(4)]
    num, _ = talks.propose(repo, files, title="t", message="", author="guest")
    found = talks.diff(repo, talks.get(repo, num)).splitlines()
    assert found[-1] == "\\ The rest is left out here: compare the files"
    assert [line for line in found if line.startswith("diff")] == [f"diff --git a/{n}.txt b/{n}.txt" for n in range(2)]


def test_what_both_sides_changed_differently_is_a_conflict_and_stays_as_it_is(store, talks, repo):
    put(store, repo, {"a": b"1", "same": b"1"})
    num, _ = talks.propose(
        repo, [store.file("a", b"theirs"), store.file("same", b"2")], title="t", message="", author="g"
    )
    ours = put(store, repo, {"a": b"ours", "same": b"2"})
    assert talks.conflicts(repo, talks.get(repo, num)) == ["a"]
    with refused(409, "Merge conflict in a: change the files in refs/pr/1 and try again"):
        talks.merge(repo, num, author="lab")
    assert store.resolve(repo) == ours
    assert talks.get(repo, num).status == "open"


def test_a_file_may_take_the_place_of_a_folder_that_is_emptied(store, talks, repo):
    put(store, repo, {"f/a": b"1", "f/g/b": b"2"})
    num, _ = talks.propose(
        repo, [Change(path="f", leaf=None), store.file("f", b"now a file")], title="t", message="", author="guest"
    )
    talks.merge(repo, num, author="lab")
    assert contents(store, store.resolve(repo)) == {"f": b"now a file"}
    put(store, repo, {"f": None, "f/a": b"1"})
    put(store, repo, {"f/a": None, "f": b"again"})
    assert contents(store, store.resolve(repo)) == {"f": b"again"}


def test_a_folder_that_got_more_meanwhile_does_not_make_way_for_a_file(store, talks, repo):
    put(store, repo, {"f/a": b"1"})
    change = [Change(path="f", leaf=None), store.file("f", b"now a file")]
    num, _ = talks.propose(repo, change, title="t", message="", author="guest")
    put(store, repo, {"f/b": b"2"})
    with refused(409, "Merge conflict: 'f' is a folder here"):
        talks.merge(repo, num, author="lab")
    assert contents(store, store.resolve(repo)) == {"f/a": b"1", "f/b": b"2"}


def test_a_file_in_the_way_of_a_folder_is_a_conflict(store, talks, repo):
    num, _ = talks.propose(repo, [store.file("a/b", b"1")], title="t", message="", author="guest")
    put(store, repo, {"a": b"2"})
    with refused(409, "Merge conflict: 'a' in 'a/b' is not a folder"):
        talks.merge(repo, num, author="lab")


def test_a_closed_or_merged_pull_request_takes_nothing_more(store, talks, repo):
    num = talks.open(repo, title="t", description="d", author="guest", pull_request=True)
    assert talks.get(repo, num).status == "draft"
    talks.set_status(repo, num, "closed", author="guest")
    with refused(409, "the pull request 1 is closed: open it again or make a new one"):
        talks.push(repo, num, [store.file("a", b"1")], title="t", message="", author="guest")
    talks.set_status(repo, num, "open", author="guest")
    old = store.resolve(repo)
    pushed = talks.push(repo, num, [store.file("a", b"1")], title="t", message="", author="guest", parent=old.sha)
    with refused(412, f"refs/pr/1 is at {pushed.sha}"):
        talks.push(repo, num, [store.file("a", b"2")], title="t", message="", author="guest", parent=old.sha)
    talks.merge(repo, num, author="lab")
    with refused(409, "the pull request 1 was merged: open a new one"):
        talks.set_status(repo, num, "open", author="guest")
    with refused(400, "the status 'merged' is not allowed: choose 'open' or 'closed'"):
        talks.set_status(repo, num, "merged", author="guest")
    assert talks.conflicts(repo, talks.get(repo, num)) == []


def test_a_discussion_that_is_no_pull_request_has_no_commits(store, talks, repo):
    num = talks.open(repo, title="t", description="d", author="guest")
    with refused(400, "the discussion 1 is no pull request: it has no commits"):
        talks.merge(repo, num, author="lab")
    with refused(404, "there is no discussion 2 in lab/people"):
        talks.get(repo, 2)


# -- upkeep


def test_a_sound_store_has_no_problems_and_everything_is_counted(store, repo):
    put(store, repo, {"a": b"1", "f/b": b"2"})
    store.create_ref(repo, "refs/tags/v1", "main")
    found = fsck(store)
    assert (found.refs, found.commits, found.blobs, found.problems) == (2, 2, 3, ())


def damage_missing(path):
    path.unlink()


def damage_torn(path):
    path.write_bytes(path.read_bytes()[:-1])


def damage_flipped(path):
    path.write_bytes(b"?" + path.read_bytes()[1:])


@pytest.mark.parametrize(
    ("damage", "said", "quick"),
    [
        (damage_missing, "is missing", True),
        (damage_torn, "has 4 bytes, not 5", True),
        (damage_flipped, "is damaged", False),
    ],
)
def test_a_check_names_the_file_that_is_missing_torn_or_changed(store, repo, damage, said, quick):
    commit = put(store, repo, {"f/a.txt": b"12345"})
    name = sha256(b"12345").hexdigest()
    damage(store.blobs.path(name))
    (problem,) = fsck(store).problems
    where = f"dataset lab/people at refs/heads/main, commit {commit.sha}, f/, a.txt: the blob {name} {said}"
    assert problem == where
    assert fsck(store, quick=True).problems == ((problem,) if quick else ())


@pytest.mark.parametrize(("table", "said"), [("trees", "the tree"), ("commits", "the commit")])
def test_a_check_finds_lost_trees_and_commits(store, repo, table, said):
    put(store, repo, {"f/a": b"1"})
    store.close()
    with sqlite3.connect(store.root / "hub.db") as db:
        db.execute(f"delete from {table}")
    db.close()
    problems = fsck(store).problems
    assert problems and all(said in problem and "is missing" in problem for problem in problems)


def test_a_check_finds_a_tree_whose_content_is_not_what_its_name_says(store, repo):
    commit = put(store, repo, {"a": b"1"})
    _, data = trees.pack({})
    with store.database.writing() as db:
        db.execute("update trees set data=? where oid=?", (data, commit.tree))
    assert [problem.split(": ")[1] for problem in fsck(store).problems] == [f"the tree {commit.tree} is damaged"]


def test_a_check_finds_a_commit_that_says_other_than_when_it_was_made(store, repo):
    commit = put(store, repo, {"a": b"1"})
    assert fsck(store).problems == ()
    with store.database.writing() as db:
        db.execute("update commits set author='mallory' where sha=?", (commit.sha,))
    where = f"dataset lab/people at refs/heads/main: the commit {commit.sha} is damaged"
    assert fsck(store).problems == (where,)


def test_a_folder_that_cannot_be_unpacked_is_a_finding_and_nothing_is_freed_or_copied(store, repo, tmp_path):
    put(store, repo, {"a": b"1"})
    store.blobs.put(b"never committed")
    with store.database.writing() as db:
        db.execute("update trees set data=x'00'")
    found = fsck(store)
    assert len(found.problems) == found.commits == 2
    assert all("the tree" in problem and problem.endswith("is damaged") for problem in found.problems)
    before = sorted(name for name, _ in store.blobs.all())
    with pytest.raises(IntegrityError, match="the tree [0-9a-f]{40} is damaged: run fsck, and restore a backup"):
        gc(store, grace=0)
    with pytest.raises(IntegrityError, match="is damaged: run fsck, and restore a backup"):
        backup(store, tmp_path / "copy")
    assert sorted(name for name, _ in store.blobs.all()) == before
    assert not (tmp_path / "copy" / "hub.db").exists()


@pytest.mark.parametrize("torn", [b"not a database" * 100, None])
def test_a_damaged_database_is_told_in_words(store, repo, torn):
    for number in range(60):
        put(store, repo, {f"{number}/a": bytes([number]) * 3000})
    store.close()
    path = store.root / "hub.db"
    whole = path.read_bytes()
    path.write_bytes(torn or whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match=r"hub.db cannot be opened as a database: .*\. Restore a backup"):
        Store(store.root)
    path.write_bytes(whole)
    assert fsck(Store(store.root)).problems == ()


def test_a_check_tells_where_the_database_cannot_be_read(store, repo):
    for number in range(60):
        put(store, repo, {f"{number}/a": bytes([number]) * 3000})
    store.close()
    path = store.root / "hub.db"
    whole = path.read_bytes()
    for start in range(4096, len(whole), 4096):
        path.write_bytes(whole[:start] + b"\xff" * 4096 + whole[start + 4096 :])
        try:
            opened = Store(store.root)
        except IntegrityError:
            continue
        found = fsck(opened).problems
        opened.close()
        assert found and found[0].startswith("the database "), start


def age(store, seconds=7200):
    """Make everything on disk older."""
    then = time.time() - seconds
    for file in store.root.rglob("*"):
        if file.is_file() and file.suffix != ".db":
            os.utime(file, (then, then))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(then))
    with store.database.writing() as db:
        db.execute("update commits set created=?", (stamp,))


def test_garbage_collection_frees_what_nothing_reaches_and_nothing_else(store, repo, talks):
    put(store, repo, {"old": b"squashed away"})
    put(store, repo, {"old": None, "kept": b"main"})
    store.create_ref(repo, "refs/heads/dev", "main")
    put(store, repo, {"dev": b"branch deleted"}, revision="dev")
    store.create_ref(repo, "refs/tags/v1", put(store, repo, {"tagged": b"tagged"}).sha)
    put(store, repo, {"tagged": None})
    talks.propose(repo, [store.file("pull", b"pull request")], title="t", message="", author="guest")
    store.blobs.put(b"never committed")
    store.delete_ref(repo, "refs/heads/dev")
    age(store)
    untouched = gc(store, grace=3 * 3600)
    assert (untouched.commits, untouched.blobs) == (0, 0)
    store.squash(repo, "main", title="All", author="lab")
    freed = gc(store, grace=3600)
    # The tag holds the whole history before it; the pull request and the branch came from commits of it.
    assert (freed.blobs, freed.bytes) == (2, len(b"branch deleted") + len(b"never committed"))
    assert freed.commits == 1
    # Making commits older forged them, which is all that a check finds.
    assert {problem.rpartition(" ")[2] for problem in fsck(store).problems} == {"damaged"}
    assert all(" the commit " in problem for problem in fsck(store).problems)
    assert contents(store, store.resolve(repo, "v1")) == {"kept": b"main", "tagged": b"tagged"}
    assert contents(store, store.resolve(repo, "refs/pr/1")) == {"kept": b"main", "pull": b"pull request"}
    store.delete_ref(repo, "refs/tags/v1")
    store.delete_repo(repo)
    assert gc(store, grace=0).blobs == 5
    assert list(store.blobs.all()) == []


def test_an_upload_in_progress_survives_garbage_collection(store, repo):
    old, new = store.blobs.put(b"old"), store.blobs.put(b"new")
    age(store)
    store.blobs.put(b"new")
    assert gc(store, grace=3600).blobs == 1
    assert (store.blobs.size(old), store.blobs.size(new)) == (None, 3)
    assert contents(store, put(store, repo, {"a": b"new"})) == {"a": b"new"}


def test_uploads_that_end_meanwhile_do_not_disturb_a_garbage_collection(store):
    done = threading.Event()

    def upload():
        while not done.is_set():
            with store.blobs.writing() as upload:
                upload.write(b"x")

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(upload) for _ in range(4)]
        try:
            freed = [gc(store) for _ in range(60)]
        finally:
            done.set()
        assert [each.result() for each in running] == [None] * 4
    assert {each.xorbs for each in freed} == {0}


def test_leftovers_of_broken_uploads_go_after_a_day(store):
    for folder in (store.xorbs, store.blobs.incoming):
        (folder / "left").write_bytes(b"x")
    assert gc(store, grace=0).xorbs == 0
    age(store, seconds=90_000)
    assert gc(store, grace=0).xorbs == 2
    with pytest.raises(OptionError, match="a grace period of -1 seconds is not possible: give 0 or more"):
        gc(store, grace=-1)


def test_a_backup_is_a_sound_store_of_its_own_and_the_next_one_copies_news_only(store, repo, tmp_path):
    commit = put(store, repo, {"a": b"1", "b": b"2"})
    secret = store.accounts.add_token("ada")
    assert backup(store, tmp_path / "copy") == 3
    put(store, repo, {"c": b"3"})
    copy = Store(tmp_path / "copy")
    assert fsck(copy).problems == ()
    assert contents(copy, copy.resolve(copy.find("dataset", "lab", "people"))) == {"a": b"1", "b": b"2"}
    assert copy.resolve(copy.repos()[0]).sha == commit.sha
    assert copy.accounts.who(secret) == Viewer(name="ada", role="write")
    copy.close()
    assert backup(store, tmp_path / "copy") == 1
    again = Store(tmp_path / "copy")
    assert contents(again, again.resolve(again.repos()[0])) == {"a": b"1", "b": b"2", "c": b"3"}
    again.close()


def test_a_backup_over_itself_or_of_a_broken_store_is_refused(store, repo, tmp_path):
    with pytest.raises(OptionError, match="is the store itself: give another folder"):
        backup(store, store.root)
    put(store, repo, {"a": b"1"})
    store.blobs.path(sha256(b"1").hexdigest()).unlink()
    with pytest.raises(
        IntegrityError, match="is missing: if a garbage collection just ran, back up again, else run fsck"
    ):
        backup(store, tmp_path / "copy")
    assert not (tmp_path / "copy" / "hub.db").exists()


def test_an_upload_that_is_not_what_it_said_leaves_nothing(store):
    said = "the content has the sha256 .* not 0000.* as declared: upload the file again"
    with pytest.raises(IntegrityError, match=said), store.blobs.writing() as upload:
        upload.write(b"other")
        upload.keep("0" * 64)
    assert list(store.blobs.all()) == []
    assert list(store.blobs.incoming.iterdir()) == []


def test_a_store_of_another_format_is_refused(store, tmp_path):
    store.close()
    with sqlite3.connect(store.root / "hub.db") as db:
        db.execute("pragma user_version=99")
    db.close()
    with pytest.raises(DataError, match="hub.db has format 99, this program reads format 1: use a fitting version"):
        Store(store.root)
