"""What pygls does for us can be made by several clients at once."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys, threading
import lsprotocol.types, pygls.lsp.server, pygls.protocol
from ollm_daemon.daemon import Daemon

sys.setswitchinterval(1e-6)
daemon, together, made = Daemon({}), threading.Barrier(8), []

def come():
    together.wait()
    made.append(daemon.new_lsp_state({"processId": None, "rootUri": None, "capabilities": {}}))

threads = [threading.Thread(target=come) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(made))
"""


def test_clients_that_come_at_the_same_time_all_get_theirs() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=50)
    assert (run.stdout, run.stderr) == ("8\n", "")
