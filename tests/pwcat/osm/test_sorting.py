import numpy as np
import pyarrow as pa
import pytest

from pwcat.osm.sorting import Sorter

SCHEMA = pa.schema([("code", pa.int64()), ("number", pa.float64()), ("text", pa.string())])


def rows(n, seed=0, codes=500):
    rng = np.random.default_rng(seed)
    code, number = rng.integers(0, codes, n), rng.permutation(n).astype(np.float64)
    return pa.table([code, number, [f"é{x}" * (x % 7) for x in range(n)]], schema=SCHEMA)


def stretches(tmp_path, tables, run_bytes):
    folder = tmp_path / f"{run_bytes}-{len(list(tmp_path.iterdir()))}"
    folder.mkdir()
    sorter = Sorter(folder, SCHEMA, ("code", "number"), run_bytes=run_bytes, stretch_bytes=run_bytes // 2)
    for table in tables:
        sorter.add(table)
    return list(sorter.stretches()), folder


@pytest.mark.parametrize("run_bytes", [30_000, 100_000, 10**9])
def test_rows_come_back_in_order_however_many_runs_there_are(tmp_path, run_bytes):
    whole = rows(8_000)
    found, folder = stretches(tmp_path, [whole.slice(n, 777) for n in range(0, len(whole), 777)], run_bytes)
    assert pa.concat_tables(each.rows for each in found).equals(
        whole.sort_by([("code", "ascending"), ("number", "ascending")])
    )
    assert (len(list(folder.iterdir())) > 1) == (len(found) > 1) == (run_bytes < 10**9)


def test_stretches_leave_no_gap_and_part_no_code(tmp_path):
    found, _ = stretches(tmp_path, [rows(8_000, codes=30)], 50_000)
    assert found[0].start == 0
    assert [each.stop for each in found[:-1]] == [each.start for each in found[1:]]
    assert found[-1].stop == np.iinfo(np.int64).max
    for each in found:
        codes = each.rows["code"].to_numpy()
        assert ((codes >= each.start) & (codes < each.stop)).all()


def test_the_order_of_what_is_given_is_of_no_matter(tmp_path):
    whole = rows(5_000)
    other = whole.take(pa.array(np.random.default_rng(3).permutation(len(whole))))
    results = [pa.concat_tables(x.rows for x in stretches(tmp_path, [table], 50_000)[0]) for table in (whole, other)]
    assert results[0].equals(results[1])


def test_what_is_the_same_in_all_columns_of_the_order_is_given_back_once(tmp_path):
    whole = rows(3_000)
    found, _ = stretches(tmp_path, [whole, whole.slice(100, 50)], 30_000)
    assert sum(len(each.rows) for each in found) == len(whole)


def test_nothing_is_one_empty_stretch(tmp_path):
    found, _ = stretches(tmp_path, [], 100)
    assert [len(each.rows) for each in found] == [0]
