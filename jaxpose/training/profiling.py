"""A trace of some training steps, written by ``jax.profiler`` into the workdir."""

import contextlib
import pathlib
import tempfile

import jax

from jaxpose.paths import is_remote
from jaxpose.runtime.phases import to_stderr
from jaxpose.storage import replace_file

STEPS_BEFORE = 5  # steps skipped before tracing: the first ones compile and fill the input queue


class StepProfiler:
    """Trace some training steps; used as a context manager around the loop.

    Args:
      folder: folder of the trace, ``WORKDIR/profile``.
      steps: number of steps to trace; 0 for none.
    """

    def __init__(self, folder: pathlib.Path, *, steps: int):
        self._folder, self._steps = folder, steps
        self._done = 0  # steps of this start
        self._trace = contextlib.ExitStack()

    def __enter__(self) -> "StepProfiler":
        return self

    def __exit__(self, *_) -> None:
        self._trace.close()
        if self._steps and self._done <= STEPS_BEFORE:
            to_stderr(f"no step was traced: tracing begins after {STEPS_BEFORE} steps")

    def before_step(self, step: int, state: jax.Array) -> contextlib.AbstractContextManager:
        """Start or stop the trace when due.

        Args:
          step: number of the next step.
          state: an array [...] of the training state. It is waited for, so that the trace contains
            the device work of exactly the traced steps.

        Returns:
          A context manager for the step, which marks it in the trace.
        """
        if self._steps and self._done in (STEPS_BEFORE, STEPS_BEFORE + self._steps):
            jax.block_until_ready(state)
            self._trace.close()
            if self._done == STEPS_BEFORE:
                self._trace.enter_context(_trace_to(self._folder))
        self._done += 1
        return jax.profiler.StepTraceAnnotation("train", step_num=step)


@contextlib.contextmanager
def _trace_to(folder: pathlib.Path):
    """Trace the context's code; on object storage the files are uploaded afterwards."""
    options = jax.profiler.ProfileOptions()
    # Tracing every Python call would dominate the trace and slow it down.
    options.python_tracer_level = 0
    if not is_remote(folder):
        with jax.profiler.trace(folder, profiler_options=options):
            yield
        return
    with tempfile.TemporaryDirectory() as temporary:
        local = pathlib.Path(temporary)
        with jax.profiler.trace(local, profiler_options=options):
            yield
        for file in local.rglob("*"):
            if file.is_file():
                replace_file(folder / file.relative_to(local).as_posix(), file.read_bytes())
