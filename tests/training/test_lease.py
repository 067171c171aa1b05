"""One launch at a time by a lease, here in a folder, which TensorStore treats as a bucket."""

import json
import threading
import time

import pytest
import tensorstore

from jaxpose.errors import JaxposeError
from jaxpose.training import lease
from jaxpose.training.lease import hold_lease

RENEW_SECONDS = 0.1


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(lease, "RENEW_SECONDS", RENEW_SECONDS)


@pytest.fixture
def folder(tmp_path):
    return f"file://{tmp_path}"


def files(folder):
    return tensorstore.KvStore.open(folder + "/").result()


def content(folder):
    found = files(folder).read(lease.NAME).result()
    return json.loads(found.value) if found.state == "value" else None


def test_it_is_there_while_the_context_lasts(folder):
    with hold_lease(folder):
        assert set(content(folder)) == {"id", "host", "process"}
    assert content(folder) is None


def test_it_is_given_back_after_an_error(folder):
    with pytest.raises(ZeroDivisionError), hold_lease(folder):
        raise ZeroDivisionError
    assert content(folder) is None


def test_a_folder_that_cannot_be_written_is_one_line():
    with pytest.raises(JaxposeError, match="workdir file:///proc/x cannot be written") as caught:
        hold_lease("file:///proc/x").__enter__()
    assert "\n" not in str(caught.value)


def test_a_second_launch_is_refused_while_the_first_renews_it(folder):
    with hold_lease(folder):
        first = content(folder)
        with pytest.raises(JaxposeError, match=r"another launch \(process \d+ on .*\) is using"):
            hold_lease(folder).__enter__()
        assert content(folder) == first


def leave(folder, owner=b'{"id": "x", "host": "h", "process": 7}'):
    """The lease of a launch that was killed."""
    files(folder).write(lease.NAME, owner).result()


@pytest.mark.parametrize("owner", [b'{"id": "x", "host": "h", "process": 7}', b"{", b"[]"])
def test_one_that_nobody_renews_is_taken_over_after_its_time(folder, owner, capsys):
    leave(folder, owner)
    began = time.monotonic()
    with hold_lease(folder):
        assert time.monotonic() - began >= lease.RENEWALS_TO_EXPIRE * RENEW_SECONDS
        assert content(folder)["id"] != "x"
    assert "checking whether it is still running" in capsys.readouterr().err


def test_one_that_is_given_back_meanwhile_is_taken_at_once(folder):
    leave(folder)
    timer = threading.Timer(RENEW_SECONDS / 2, lambda: files(folder).write(lease.NAME, None))
    timer.start()
    with hold_lease(folder):
        assert content(folder)["id"] != "x"
    timer.join()


def test_of_several_that_want_it_one_gets_it(folder):
    leave(folder)
    held, refused, over = [], [], threading.Barrier(4)

    def want(number):
        try:
            with hold_lease(folder):
                held.append(number)
                over.wait(timeout=60)
        except JaxposeError:
            refused.append(number)
            over.wait(timeout=60)

    threads = [threading.Thread(target=want, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1 and len(refused) == 3


@pytest.mark.parametrize("left", [b'{"id": "other", "host": "h", "process": 7}', None])
def test_a_holder_whose_lease_was_taken_over_is_told(folder, left):
    told = threading.Event()
    with hold_lease(folder, lost=lambda line: told.set()):
        files(folder).write(lease.NAME, left).result()
        assert told.wait(timeout=60)
    assert content(folder) == (left and json.loads(left))  # and it leaves the other's alone


def test_a_write_that_was_repeated_is_still_its_own(folder):
    """The answer to the first try was lost, and the second found the version changed."""
    told = threading.Event()
    with hold_lease(folder, lost=lambda line: told.set()):
        files(folder).write(lease.NAME, json.dumps(content(folder)).encode()).result()
        assert not told.wait(timeout=5 * RENEW_SECONDS)
    assert content(folder) is None
