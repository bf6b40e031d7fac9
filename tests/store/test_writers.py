"""One process at a time writes into a folder, whatever became of the one before it."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from pbb_probe.errors import PbbError
from pbb_probe.store.writers import only_writer

HOLD = """
import sys, time
from pathlib import Path
from pbb_probe.store.writers import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_told_who_writes(holder, tmp_path):
    with pytest.raises(
        PbbError, match=rf"is being written by process {holder.pid} on .*, since 20\d\d-.*: wait for it"
    ):
        only_writer(tmp_path).__enter__()
    assert holder.poll() is None


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_lock_ends_with_its_process(holder, tmp_path, number):
    holder.send_signal(number)
    holder.wait()
    with only_writer(tmp_path):
        assert f"process {os.getpid()}" in (tmp_path / ".lock").read_text()
    assert not list(tmp_path.iterdir())


def test_the_same_thread_may_ask_again_and_another_may_not(tmp_path):
    refused = []

    def other() -> None:
        try:
            with only_writer(tmp_path):
                pass
        except PbbError as error:
            refused.append(str(error))

    with only_writer(tmp_path):
        with only_writer(tmp_path / "." / "sub" / ".."):
            pass
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert "Another thread" in refused[0]
        assert (tmp_path / ".lock").exists()  # the inner end was not the end
    with only_writer(tmp_path):
        pass


def test_an_error_inside_lets_go(tmp_path):
    with pytest.raises(ZeroDivisionError), only_writer(tmp_path):
        _ = 1 / 0
    with only_writer(tmp_path):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_where_nothing_can_be_written_that_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PbbError, match="cannot be written"):
        only_writer(tmp_path).__enter__()


def test_a_folder_in_the_place_of_the_lock_is_said(tmp_path):
    (tmp_path / ".lock").mkdir()
    with pytest.raises(PbbError, match="cannot be written"):
        only_writer(tmp_path).__enter__()


def test_a_forked_process_does_not_share_the_lock(tmp_path):
    with only_writer(tmp_path):
        pid = os.fork()
        if not pid:
            try:
                only_writer(tmp_path).__enter__()
            except PbbError:
                os._exit(3)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
