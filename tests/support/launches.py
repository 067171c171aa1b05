"""Launches of one or several processes on one machine, for tests: started, watched, ended."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import time

from tests.support import tiny_run

# Scores the checkpoint that follows it, instead of training.
EVALUATE = """
import sys
import launch
checkpoint, *arguments = sys.argv[1:]
sys.exit(launch.main([*arguments, "--mode=eval", f"--checkpoint={checkpoint}"]))
"""
LONG = 600  # seconds that a process may take to start and compile on a busy machine


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Launch:
    """The same command in `processes` processes; leaving the context kills what still runs.

    Process i writes WORKDIR.i.log, or LOGS.i.log, which later launches append to.
    """

    def __init__(
        self,
        workdir,
        people,
        cache,
        *,
        processes=2,
        devices=2,
        of_process=None,
        script=(),
        logs=None,
        environment=None,
        **fields,
    ):
        self.logs = [pathlib.Path(f"{logs or workdir}.{i}.log") for i in range(processes)]
        self.starts = [log.stat().st_size if log.exists() else 0 for log in self.logs]
        environment = {
            **os.environ,
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            **(environment or {}),
        }
        port = free_port()
        own = [{**fields, **(of_process or {}).get(i, {})} for i in range(processes)]
        commands = [tiny_run.command(workdir, f.pop("data_dir", people), **f) for f in own]
        self.processes = []
        for i, log in enumerate(self.logs):
            command = [sys.executable, *script, *commands[i]]
            if processes > 1:
                command += [
                    f"--coordinator=127.0.0.1:{port}",
                    f"--num_processes={processes}",
                    f"--process_id={i}",
                    "--heartbeat_seconds=10",
                ]
            with log.open("a") as output:
                self.processes.append(
                    subprocess.Popen(
                        command, env=environment, cwd=tiny_run.ROOT, stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()

    def said(self, process: int = 0) -> str:
        """What it has said since this launch."""
        return self.logs[process].read_bytes()[self.starts[process] :].decode(errors="replace")

    def lines(self) -> int:
        """Lines of progress since this launch."""
        return len(re.findall(r"^step \d+/", self.said(), re.MULTILINE))

    def until(self, condition, *, seconds: float = LONG) -> bool:
        """Wait until `condition()` holds or process 0 ended; whether it holds."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.processes[0].poll() is None:
            if condition():
                return True
            time.sleep(0.01)
        return condition()

    def signal(self, number: int, *processes: int) -> None:
        """Send a signal to some, or to all."""
        for i in processes or range(len(self.processes)):
            self.processes[i].send_signal(number)

    def wait(self, *, seconds: float = LONG) -> list[int]:
        """Their statuses; TimeoutExpired where one does not end."""
        end = time.monotonic() + seconds
        return [p.wait(timeout=max(end - time.monotonic(), 0.1)) for p in self.processes]
