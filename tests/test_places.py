"""Folders and stores keep files whole or not at all, and say what to do where they cannot."""

import pickle
import uuid

import pytest

from anthology_hub.errors import OptionError, RunError
from anthology_hub.places import Store, place_of
from anthology_hub.runs import RunFolder, provenance


@pytest.fixture(params=["folder", "store"])
def where(request, tmp_path):
    """A folder of this machine, and one in a store of fsspec's, where a file is renamed into its place."""
    return tmp_path / "run" if request.param == "folder" else f"fsspec+memory://{uuid.uuid4().hex}/run"


def test_what_is_written_is_read_and_listed_in_order(where):
    place = place_of(where)
    assert place.names() == place.names("parts") == []
    for name in ("parts/b.txt", "parts/a.txt", "top.txt"):
        place.write(name, name.encode())
    place.write("parts/a.txt", b"anew")
    assert place.names() == ["top.txt"] and place.names("parts") == ["a.txt", "b.txt"]
    assert list(place.read_all(["parts/b.txt", "parts/a.txt"])) == [b"parts/b.txt", b"anew"]


def test_a_file_that_is_not_there_is_named(where):
    with pytest.raises(RunError, match=r"run/gone\.txt cannot be read"):
        place_of(where).read("gone.txt")


def test_a_place_travels_to_a_worker(where):
    place = place_of(where)
    place.write("a.txt", b"here")
    assert pickle.loads(pickle.dumps(place)).read("a.txt") == b"here"


def test_a_run_folder_goes_on_anywhere_and_is_no_other_run(where):
    told = provenance({"seed": 0})
    run = RunFolder.open(where, told, files={"survey.json": b"{}"})
    run.write("parts", [{"n": 1}, {"n": 2}], None, key=[1])
    again = RunFolder.open(where, provenance({"seed": 0}))
    assert again.provenance["run_id"] == told["run_id"] and again.json("survey.json") == {}
    assert [rows for _, rows in again.read("parts")] == [[{"n": 1}, {"n": 2}]]
    assert [event["event"] for event in again.events()][0] == "started"
    with pytest.raises(RunError, match=r"belongs to another run; what differs: seed \(0 there, 1 now\)"):
        RunFolder.open(where, provenance({"seed": 1}))


def test_a_worker_writes_the_same_part_and_tells_nothing(where):
    run = RunFolder.open(where, provenance({"seed": 0}))
    run.log("finished")
    before = list(run.events())
    worker = pickle.loads(pickle.dumps(run))
    for one in (worker, run, worker):
        one.write("parts", [{"n": 1}], None, key=[1])
    worker.log("asked")
    assert len(run.place.names("parts")) == 1
    assert [event["event"] for event in run.events()][: len(before)] == [event["event"] for event in before]
    assert "asked" not in {event["event"] for event in run.events()}


def test_what_holds_other_files_is_refused(where):
    place_of(where).write("notes.txt", b"mine")
    with pytest.raises(RunError, match="is not empty and is no run folder: give a new folder"):
        RunFolder.open(where, provenance({"seed": 0}))
    with pytest.raises(RunError, match=r"is no run folder: it has no run\.json"):
        RunFolder(where)


def test_a_broken_part_is_named_with_what_mends_it(where):
    run = RunFolder.open(where, provenance({"seed": 0}))
    run.place.write("parts/part-0.parquet", b"half")
    with pytest.raises(RunError, match=r"run/parts/part-0\.parquet is broken .*: delete it and run again"):
        list(run.read("parts"))


def test_a_key_in_a_uri_is_refused_and_not_shown():
    with pytest.raises(OptionError, match=r"s3://\.\.\.@bucket/run holds a key: .*environment") as caught:
        Store("s3://AKIA:verysecret@bucket/run")
    assert "verysecret" not in str(caught.value)


@pytest.mark.parametrize("uri", ["nowhere://bucket/run", "fsspec+nowhere://bucket/run"])
def test_an_unknown_store_says_what_is_known(uri):
    with pytest.raises(OptionError, match=r"nowhere://bucket/run is no place that can be opened .*s3://bucket/run"):
        place_of(uri).names()
