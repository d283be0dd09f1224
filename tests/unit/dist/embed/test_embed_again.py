"""An embed job run again: on a changed catalog, after a stop, after damage, on a full disk."""

import subprocess

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from foundrank.data.config.sections.entities import Stored
from foundrank.data.contents.content_store import check_store, open_store
from foundrank.data.errors import UserError
from foundrank.model.contents import ENCODERS

from .embed_job import content, make_experiment, many, run, vectors_of, write_items


def test_a_second_run_encodes_and_touches_nothing(tmp_path, encoder):
    write_items(tmp_path)
    folder, _ = run(make_experiment(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    _, said = run(make_experiment(tmp_path))
    assert "up to date" in said
    assert len(encoder.calls) == 1
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_only_what_is_new_is_encoded_and_the_old_rows_stay(tmp_path, encoder, small_shards):
    keys, titles = many(20)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    before = open_store(folder)
    encoder.calls.clear()
    more_keys, more = many(5, start=20)
    write_items(tmp_path, keys[3:] + more_keys, titles[3:] + more)  # three items are gone
    _, said = run(make_experiment(tmp_path))
    assert encoder.texts == sorted(more)
    after = open_store(folder)
    assert torch.equal(after.vectors[:20], before.vectors)
    wanted = {key: [len(title), 1, 0, 0] for key, title in zip(keys[3:] + more_keys, titles[3:] + more, strict=True)}
    assert vectors_of(after) == wanted
    assert "3 vectors are of texts the catalog no longer has" in said

    # An item that comes back finds its vector; a rebuild drops the others.
    encoder.calls.clear()
    write_items(tmp_path, keys[2:] + more_keys, titles[2:] + more)
    run(make_experiment(tmp_path))
    assert encoder.calls == []
    run(make_experiment(tmp_path), rebuild=True)
    assert len(open_store(folder).vectors) == 23
    assert [p.name for p in folder.parent.iterdir()] == ["item"]


@pytest.mark.parametrize("change", ["weights", "pooling", "template", "prompt", "dimension", "max_length"])
def test_vectors_of_two_kinds_are_never_mixed(tmp_path, encoder, change):
    write_items(tmp_path)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    options = {"template": {"template": "{asin} {title}"}, "prompt": {"prompt": "q: "}, "dimension": {"dimension": 2}}
    experiment = make_experiment(tmp_path, **options.get(change, {}))
    if change in ("weights", "pooling", "max_length"):
        setattr(encoder, {"weights": "weights_checksum"}.get(change, change), 7 if change == "max_length" else "other")
    encoder.calls.clear()
    with pytest.raises(UserError, match=r"made differently .*there, .* here.*never mixed: add --rebuild"):
        run(experiment)
    assert content(folder) == before
    run(experiment, rebuild=True)
    assert len(encoder.calls) == 1
    check_store(open_store(folder), experiment, Stored("item", "text"))


def test_a_store_keeps_the_precision_it_began_with(tmp_path, encoder, monkeypatch):
    write_items(tmp_path)
    asked = []
    monkeypatch.setitem(ENCODERS, "llm", lambda c, precision: asked.append(precision) or encoder)
    run(make_experiment(tmp_path))
    run(make_experiment(tmp_path))
    run(make_experiment(tmp_path), rebuild=True)
    assert asked == [None, "fp32", None]


@pytest.mark.parametrize("stop_after", [0, 1, 5, 12])
def test_a_stopped_job_goes_on_where_it_was(tmp_path, encoder, small_shards, stop_after):
    keys, titles = many(100)
    write_items(tmp_path, keys, titles)
    whole, _ = run(make_experiment(tmp_path, store=str(tmp_path / "whole")))
    encoder.calls.clear()
    encoder.fails_at = stop_after
    experiment = make_experiment(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(experiment)
    with pytest.raises(UserError, match="is missing"):
        open_store(tmp_path / "store" / "item")
    done = len(encoder.calls)
    encoder.fails_at = None
    folder, _ = run(experiment)
    assert len(encoder.calls) <= done + 13 - stop_after
    assert content(folder) == content(whole)


@pytest.mark.parametrize("damage", ["flipped", "truncated", "note"])
def test_a_damaged_shard_of_an_unfinished_job_is_made_again(tmp_path, encoder, small_shards, damage):
    keys, titles = many(60)
    write_items(tmp_path, keys, titles)
    whole, _ = run(make_experiment(tmp_path, store=str(tmp_path / "whole")))
    encoder.calls.clear()
    encoder.fails_at = 6
    with pytest.raises(KeyboardInterrupt):
        run(make_experiment(tmp_path))
    folder = tmp_path / "store" / "item"
    notes = sorted(folder.glob("work/shard-*.json"))
    assert notes
    vectors = bytearray((folder / "vectors.f16").read_bytes())
    if damage == "flipped":
        vectors[3] ^= 1
        (folder / "vectors.f16").write_bytes(vectors)
    elif damage == "truncated":
        (folder / "vectors.f16").write_bytes(vectors[:40])
    else:
        notes[0].write_text(notes[0].read_text()[:-5])
    encoder.fails_at = None
    before = len(encoder.calls)
    run(make_experiment(tmp_path))
    assert len(encoder.calls) - before >= 8 - len(notes) + 1
    assert content(folder) == content(whole)


@pytest.mark.parametrize("name", ["vectors.f16", "index-*.parquet"])
def test_damage_of_a_finished_store_is_found_and_mended(tmp_path, encoder, small_shards, name):
    keys, titles = many(60)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    (path,) = folder.glob(name)
    damaged = bytearray(path.read_bytes())
    damaged[130] ^= 1
    path.write_bytes(damaged)
    encoder.calls.clear()
    run(make_experiment(tmp_path))
    assert len(encoder.calls) == (1 if name == "vectors.f16" else 0)
    assert content(folder) == before


def test_a_damaged_shard_whose_texts_are_gone_becomes_zeros(tmp_path, encoder, small_shards):
    keys, titles = many(16)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    rows = open_store(folder).row_of_key
    gone = [n for n in range(16) if rows[n] < 8][:3]
    kept = [n for n in range(16) if n not in gone]
    (folder / "vectors.f16").write_bytes(b"\xff" * 16 * 8)
    write_items(tmp_path, [keys[n] for n in kept], [titles[n] for n in kept])
    run(make_experiment(tmp_path))
    store = open_store(folder)
    assert vectors_of(store) == {keys[n]: [len(titles[n]), 1, 0, 0] for n in kept}
    assert store.vectors[rows[gone]].eq(0).all()


def test_a_folder_of_something_else_is_left_alone(tmp_path, encoder):
    write_items(tmp_path)
    folder = tmp_path / "store" / "item"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("years of work")
    for rebuild in (False, True):
        with pytest.raises(UserError, match="is not empty and holds no content store"):
            run(make_experiment(tmp_path), rebuild=rebuild)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_an_unfinished_rebuild_is_gone_on_with_and_told(tmp_path, encoder, small_shards):
    keys, titles = many(60)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    encoder.calls.clear()
    encoder.fails_at = 5
    with pytest.raises(KeyboardInterrupt):
        run(make_experiment(tmp_path), rebuild=True)
    encoder.fails_at = None
    assert content(folder) == before
    assert "an unfinished rebuild lies in" in run(make_experiment(tmp_path))[1]
    done = len(encoder.calls)
    run(make_experiment(tmp_path), rebuild=True)
    assert len(encoder.calls) < done + 8
    assert content(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["item"]


def test_notes_of_another_job_are_not_believed(tmp_path, encoder, small_shards):
    keys, titles = many(60)
    write_items(tmp_path, keys, titles)
    encoder.fails_at = 4
    with pytest.raises(KeyboardInterrupt):
        run(make_experiment(tmp_path))
    encoder.fails_at, encoder.weights_checksum = None, "other"
    encoder.calls.clear()
    run(make_experiment(tmp_path))
    assert len(encoder.calls) == 8


def test_a_rewritten_catalog_with_the_same_texts_only_renews_the_manifest(tmp_path, encoder):
    write_items(tmp_path)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    pq.write_table(
        pa.table({"asin": list("abcd"), "title": ["xx", None, "yyy", "xx"], "new": [1, 2, 3, 4]}),
        tmp_path / "items.parquet",
    )
    experiment = make_experiment(tmp_path)
    with pytest.raises(UserError, match="has changed since"):
        check_store(open_store(folder), experiment, Stored("item", "text"))
    run(experiment)
    check_store(open_store(folder), experiment, Stored("item", "text"))
    assert len(encoder.calls) == 1
    assert {name for name, bytes_ in content(folder).items() if bytes_ != before[name]} == {"manifest.json"}


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 512 kB for the store."""
    folder = tmp_path / "store"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_is_told_before_the_work_and_the_store_stays(tmp_path, encoder, small_disk):
    keys, titles = many(100)
    write_items(tmp_path, keys, titles)
    folder, _ = run(make_experiment(tmp_path))
    before = content(folder)
    encoder.calls.clear()
    more_keys, more = many(8000)
    write_items(tmp_path, more_keys, more)
    (small_disk / "ballast").write_bytes(bytes(450_000))
    with pytest.raises(UserError, match=r"the disk is full: [0-9,]+ bytes are needed.*Free some space"):
        run(make_experiment(tmp_path))
    assert encoder.calls == []
    assert {name: content(folder).get(name) for name in before} == before
    write_items(tmp_path, keys, titles)
    run(make_experiment(tmp_path))
    assert encoder.calls == []
    assert content(folder) == before


@pytest.mark.parametrize("left", range(0, 180_000, 20_000))
def test_a_disk_that_fills_up_at_any_moment_is_told_and_what_is_done_is_kept(
    tmp_path, encoder, small_shards, small_disk, left
):
    keys, titles = many(300)
    write_items(tmp_path, keys, titles)
    (small_disk / "ballast").write_bytes(bytes(512 * 1024 - left))
    with pytest.raises(UserError, match="the disk is full"):
        run(make_experiment(tmp_path))
    noted = len(list(small_disk.glob("item/work/shard-*.json")))
    assert noted < 38
    (small_disk / "ballast").unlink()
    encoder.calls.clear()
    run(make_experiment(tmp_path))
    assert len(encoder.calls) == 38 - noted
    assert vectors_of(open_store(small_disk / "item"))["k7"] == [len(titles[7]), 1, 0, 0]
