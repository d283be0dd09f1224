import threading

import pytest

from foundrank.data.debugging import SWITCH
from foundrank.data.prefetch import prefetch


@pytest.mark.parametrize("stepped_through", [False, True])
def test_items_and_errors_come_out_of_it_and_a_debugger_has_them_in_its_own_thread(monkeypatch, stepped_through):
    monkeypatch.setenv(SWITCH, str(int(stepped_through)))

    def items():
        yield threading.current_thread()
        yield threading.current_thread()
        raise ValueError("of ours")

    found = prefetch(items(), 4)
    threads = {next(found), next(found)}
    assert (threads == {threading.current_thread()}) == stepped_through
    with pytest.raises(ValueError, match="of ours"):
        next(found)
