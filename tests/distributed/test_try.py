from .test_checkpoint import *
from .test_checkpoint import load,train_and_save
import pytest
@pytest.mark.parametrize(("frm","ranks", "sharding"), [("row_wise",1, "auto"), ("row_wise",2, "column_wise"), ("row_wise",2, "table_wise"), ("row_wise",2, "row_wise"),("column_wise",2,"row_wise"),("table_wise",1,"auto")])
@pytest.mark.parametrize("optimizer", ["rowwise_adagrad","adam","sgd"])
def test_y(small, tmp_path, frm,ranks, sharding, optimizer):
    ch = f"training.sparse_optimizer={optimizer}"
    a = run_ranks(train_and_save, 2, small(f"training.sharding={frm}", ch), tmp_path)
    b = run_ranks(load, ranks, small(f"training.sharding={sharding}", ch), tmp_path)
