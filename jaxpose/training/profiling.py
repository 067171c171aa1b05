"""A trace of some training steps, written by ``jax.profiler`` into the workdir."""

import contextlib
import pathlib
import tempfile

import jax

from jaxpose.paths import is_remote
from jaxpose.storage import replace_file

STEPS_BEFORE = 5  # of this start, that are not traced: the first ones compile and fill the input


class StepProfiler:
    """Traces some steps of a start; used as a context around the loop.

    Args:
      folder: of the trace, ``WORKDIR/profile``.
      steps: how many to trace; 0 traces none.
    """

    def __init__(self, folder: pathlib.Path, *, steps: int):
        self._folder, self._steps = folder, steps
        self._done = 0  # steps of this start
        self._trace = contextlib.ExitStack()

    def __enter__(self) -> "StepProfiler":
        return self

    def __exit__(self, *_) -> None:
        self._trace.close()

    def before_step(self, step: int, state: jax.Array) -> contextlib.AbstractContextManager:
        """Start or end the trace where it is time.

        Args:
          step: number of the step that comes.
          state: an array [...] of the training state: the trace waits for it, so that it holds the
            devices' work on all of its steps and on no earlier one.

        Returns:
          A context for the step, which marks it in the trace.
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
    """Trace what runs in the context; on object storage the files are uploaded after it."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # each Python call would make most of a trace, and slow it
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
