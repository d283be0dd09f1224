"""Batch scoring: the same scores however it is run, resumable, and equal to what was evaluated."""

import json
from pathlib import Path

import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

import foundrank as foundrank_module
from foundrank.data.errors import UserError

from .commands import foundrank, without_temporaries

DOMAIN = "shop_feed"


def events_of(world: Path, domain: str) -> pa.Table:
    return pq.read_table(world / "events" / domain / "test")


@pytest.fixture(scope="module")
def source(embedded: Path) -> Path:
    """The test events of one domain, in two files of several row groups."""
    table = events_of(embedded, DOMAIN)
    folder = embedded.parent / "to_score"
    folder.mkdir()
    pq.write_table(table.slice(0, 300), folder / "a.parquet", row_group_size=130)
    pq.write_table(table.slice(300), folder / "b.parquet", row_group_size=130)
    return folder


@pytest.fixture(scope="module")
def scores(run: Path, source: Path) -> Path:
    out = run.parent / "scores"
    foundrank("score", run, source, out, "--domain", DOMAIN, "--keep", "click,request", "-p", "2")
    return out


def test_rows_and_ids_pass_through(source, scores):
    given, scored = pq.read_table(source), pq.read_table(scores)
    assert scored.column_names == ["user", "item", "click", "request", "domain", "score_click", "score_conversion"]
    for column in ("user", "item", "click", "request"):
        assert scored[column].to_pylist() == given[column].to_pylist()
    assert set(scored["domain"].to_pylist()) == {DOMAIN}
    for column in ("score_click", "score_conversion"):
        values = scored[column].to_numpy()
        assert scored.schema.field(column).type == pa.float32()
        assert ((values > 0) & (values < 1)).all()


def test_scores_are_those_that_were_evaluated(run, source, scores):
    scored = pq.read_table(scores)
    auc = roc_auc_score(scored["click"].to_numpy(), scored["score_click"].to_numpy())
    rows = json.loads((run / "evaluation.json").read_text())["rows"]
    (wanted,) = (r for r in rows if (r["domain"], r["task"], r["slice"]) == (DOMAIN, "click", "all"))
    assert auc == pytest.approx(wanted["auc"], abs=1e-6)


def test_python_gives_the_same_scores(run, source, scores):
    scorer, asked = foundrank_module.load(run), {"domain": DOMAIN, "keep": ("click", "request")}
    given = pq.ParquetFile(source / "a.parquet").read_row_group(1)
    wanted = pq.read_table(scores / "part-00000-00001.parquet")
    assert scorer.score(given, **asked).equals(wanted)  # to the bit
    for frame in (given.to_pandas(), polars.from_arrow(given)):
        assert scorer.score(frame, **asked).cast(wanted.schema).equals(wanted)
    named = given.append_column("domain", pa.array([DOMAIN] * len(given)))
    assert scorer.score(named, keep=("click", "request")).equals(wanted)
    none = scorer.score(given.slice(0, 0), **asked)
    assert (none.num_rows, none.column_names) == (0, wanted.column_names)


def test_python_tells_what_is_wrong_with_rows(run, source):
    scorer, given = foundrank_module.load(run), pq.read_table(source)
    item = given.column_names.index("item")
    for rows, domain, told in (
        (given, None, "no column 'domain'"),
        (given, "shop_fed", "Did you mean 'shop_feed'"),
        (given.drop_columns("item"), DOMAIN, "column 'item': is missing"),
        (given.set_column(item, "item", pa.array(range(len(given)))), DOMAIN, "holds integer ids"),
        ([1, 2], DOMAIN, "are a list"),
    ):
        with pytest.raises(UserError, match=told):
            scorer.score(rows, domain)


def test_one_process_gives_the_scores_of_two(run, source, scores, tmp_path):
    foundrank("score", run, source, tmp_path / "out", "--domain", DOMAIN, "--keep", "click,request", "-p", "1")
    assert without_temporaries(tmp_path / "out") == without_temporaries(scores)
    alone, wanted = pq.read_table(tmp_path / "out"), pq.read_table(scores)
    for column in ("score_click", "score_conversion"):
        np.testing.assert_allclose(alone[column].to_numpy(), wanted[column].to_numpy(), atol=1e-6)


def test_success_comes_last_and_a_lost_part_is_made_again(run, source, scores):
    parts = sorted(scores.glob("part-*.parquet"))
    assert len(parts) == sum(pq.read_metadata(file).num_row_groups for file in source.iterdir()) >= 4
    success = scores / "_SUCCESS"
    assert success.stat().st_mtime_ns >= max(part.stat().st_mtime_ns for part in parts)
    before = {part: (part.stat().st_mtime_ns, part.read_bytes()) for part in parts}
    parts[1].unlink()
    foundrank("score", run, source, scores, "--domain", DOMAIN, "--keep", "click,request", "-p", "2")
    assert sorted(scores.glob("part-*.parquet")) == parts
    for part in parts:
        assert part.read_bytes() == before[part][1]
        assert (part.stat().st_mtime_ns == before[part][0]) == (part != parts[1])
    assert success.stat().st_mtime_ns >= parts[1].stat().st_mtime_ns


def test_a_domain_column_mixes_domains_in_one_file(run, embedded, scores, tmp_path):
    domains = sorted(path.name for path in (embedded / "events").iterdir())
    tables = [t.append_column("domain", pa.array([d] * len(t))) for d in domains for t in [events_of(embedded, d)]]
    mixed = pa.concat_tables(tables, promote_options="default")
    mixed = mixed.take(np.random.default_rng(0).permutation(len(mixed)))
    pq.write_table(mixed, tmp_path / "mixed.parquet", row_group_size=500)
    foundrank("score", run, tmp_path / "mixed.parquet", tmp_path / "out", "--keep", "request,position", "-p", "1")
    scored = pq.read_table(tmp_path / "out")
    assert scored["domain"].to_pylist() == mixed["domain"].to_pylist()

    def by_place(table: pa.Table) -> dict:
        rows = table.filter(pa.compute.equal(table["domain"], DOMAIN)).to_pylist()
        return {(row["request"], row["item"]): row["score_click"] for row in rows}

    given, wanted = by_place(scored), by_place(pq.read_table(scores))
    assert given.keys() == wanted.keys()
    assert [given[place] for place in wanted] == pytest.approx(list(wanted.values()), abs=1e-6)
