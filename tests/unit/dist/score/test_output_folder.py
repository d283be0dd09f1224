"""The folder of a result, between jobs."""

from foundrank.data.storage.trees import files_below
from foundrank.dist.score.output_folder import JOB, Place, claim


def test_what_was_written_of_a_file_that_is_another_now_goes(tmp_path):
    """A part that is several files may lie there in half, without the mark that it is done."""
    for name in ("day=a/part-00000-00000.parquet", "day=a/part-00001-00000.parquet", "day=b/.x.tmp-7"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"rows")
    claim(str(tmp_path), Place(str(tmp_path), [{}, {}], [0, None]), {})
    assert sorted(files_below(str(tmp_path))) == [JOB, "day=a/part-00000-00000.parquet"]
