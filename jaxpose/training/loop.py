"""The training loop: steps, logging, validation, checkpoints.

``train(config, workdir)`` starts or resumes a run. The position in the run is the number of
completed steps: data, random numbers and learning rate are pure functions of it, so an interrupted
run resumes bit-exactly.
"""

import contextlib
import math
import pathlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.data.batches import Batch, example_name, train_batches
from jaxpose.data.prepared import default_data_dir
from jaxpose.errors import JaxposeError
from jaxpose.evaluation.metric_choice import LOSS
from jaxpose.runtime import processes
from jaxpose.runtime.devices import parallel, replicate, shard, unreplicate
from jaxpose.runtime.phases import phase
from jaxpose.training.config import augmentation_of, check_config
from jaxpose.training.metric_log import RunLog
from jaxpose.training.profiling import StepProfiler
from jaxpose.training.run import Run, Start, metadata_of, open_run, start_of
from jaxpose.training.step import empty_sums, evaluation_variables, make_train_step
from jaxpose.training.validation import Validator, make_validator
from jaxpose.training.workdir import check_data, prepare_workdir

if TYPE_CHECKING:
    import ml_collections

MAX_UNREADABLE_FRACTION = 0.01  # fraction of the images drawn so far that may be unreadable
MIN_UNREADABLE = 3  # so that one bad image among the first hundred does not stop a run
# The time since the last checkpoint is checked at log lines, and at least this often.
MAX_STEPS_BETWEEN_CHECKS = 10
REPORT_WAIT_FRACTION = 0.05  # waiting is reported if it takes more than this fraction of the time


class TrainResult(NamedTuple):
    """Result of ``train``.

    Attributes:
      step: number of completed steps.
      num_steps: number of steps of the whole run.
      metric: best validation metric; None before the first validation.
      stopped: why training stopped before the last epoch: "preemption", "max_minutes", or None.
    """

    step: int
    num_steps: int
    metric: float | None
    stopped: str | None

    def __str__(self) -> str:
        ended = f"stopped ({self.stopped})" if self.stopped else "done"
        best = "none" if self.metric is None else f"{self.metric:.2f}"
        return f"{ended} at step {self.step} of {self.num_steps}, best validation metric {best}"


def train(
    config: "ml_collections.ConfigDict", workdir: str | pathlib.Path, *, profile_steps: int = 0
) -> TrainResult:
    """Train until the config's last epoch, resuming the run in ``workdir`` if there is one.

    Args:
      config: config of the run.
      workdir: a folder, or a URL on object storage (``gs://``).
      profile_steps: number of steps that process 0 traces; the trace is written to
        ``workdir``/profile.

    Raises:
      JaxposeError: the config, data or workdir cannot be used, or the loss is not finite.
    """
    check_config(config)
    if profile_steps < 0:
        raise JaxposeError(f"profile_steps is {profile_steps}; it must be 0 or more")
    with prepare_workdir(workdir, config.to_dict()) as folder:
        with _phase("opening the data sets"):
            run = open_run(config)
        return _train_in(run, folder, profile_steps)


def _train_in(run: Run, folder: pathlib.Path, profile_steps: int) -> TrainResult:
    with _phase("initializing the network"):
        start = start_of(run, folder)
        validator = make_validator(run, trained=start.trained)
    step = int(start.state.step)
    processes.barrier()
    if not processes.same_everywhere(step):
        raise JaxposeError(
            f"process {jax.process_index()} found step {step} in {folder}, but other processes "
            "found a different step; give all processes the same workdir on a shared disk"
        )
    persons = {split.name: len(split.source) for split, _ in run.training}
    check_data(folder, persons, resumed=step > 0)
    first = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        run_log = RunLog(folder, step=step, num_steps=run.num_steps, active=first)
        stack.callback(run_log.close)
        preemption = stack.enter_context(processes.Preemption())
        managers = {}
        for name, keep in (("latest", 2), ("best", 1)):
            managers[name] = store.open_manager(folder / "checkpoints" / name, keep=keep)
            stack.callback(store.finish, managers[name])
        for note in (*start.notes, *run.notes, f"metric: {validator.choice.description}"):
            run_log.info(note)
        loop = Loop(run, run_log, managers, start, validator)
        profiler = StepProfiler(folder / "profile", steps=profile_steps if first else 0)
        stack.enter_context(profiler)
        processes.barrier()
        stopped = loop.run_steps(preemption, profiler) if step < run.num_steps else None
        best = float(unreplicate(loop.state.best_metric))
        return TrainResult(
            step=loop.step,
            num_steps=run.num_steps,
            metric=best if best > -math.inf else None,
            stopped=stopped,
        )


def _phase(text: str) -> contextlib.AbstractContextManager:
    """Announce a phase on process 0 only."""
    return phase(text) if jax.process_index() == 0 else contextlib.nullcontext()


def waiting_text(waits: np.ndarray, rate: float) -> str:
    """Return the text for the progress line if the input pipeline is the bottleneck, otherwise "".

    Args:
      waits: [P], fraction of the time that each process's devices waited for a batch.
      rate: images per second, over all processes.
    """
    if waits.max() < REPORT_WAIT_FRACTION:
        return ""
    text = f", waiting for input {waits.max():.0%} of the time"
    if len(waits) > 1:
        slowest = int(waits.argmax())
        text += f" (slowest: process {slowest}, {rate / len(waits):.0f} images/s)"
    return text


class Loop:
    """The training loop and its mutable state: the device state, the step and the elapsed time.

    Training resumes from ``TrainState`` only; all other attributes are clocks and handles of the
    current process.

    Args:
      run: from ``open_run``.
      log: the run log; active only on process 0.
      managers: checkpoint managers of the folders "latest" and "best".
      start: initial or restored state.
      validator: evaluates on the data sets of ``config.validation``.
    """

    def __init__(
        self,
        run: Run,
        log: RunLog,
        managers: dict[str, Any],
        start: Start,
        validator: Validator,
    ):
        config = run.config
        self.run, self.log, self.managers, self.validator = run, log, managers, validator
        self.state, self.trained = replicate(start.state), start.trained
        self.step = int(start.state.step)
        now = time.monotonic()
        self.started = now - start.seconds
        self.saved_at, self.saved_step = now, self.step
        self.window = (self.step, now)  # start of the window for images per second
        self.waited = 0.0  # upper bound of the seconds in the window in which devices had no batch
        self.named: set[int] = set()  # persons whose unreadable image was logged
        self.train_step = parallel(
            make_train_step(
                run.net,
                run.optimizer,
                probability_weight=config.probability_weight,
                context_weight=config.context_weight,
                heatmap_weight=config.heatmap_weight,
                ema_decay=config.ema,
                accumulation_steps=config.accumulation_steps,
                frozen_norm=config.frozen_norm,
            ),
            donate=True,
        )

    def seconds(self) -> float:
        """Return the seconds spent on the run, including earlier starts."""
        return time.monotonic() - self.started

    def run_steps(self, preemption: processes.Preemption, profiler: StepProfiler) -> str | None:
        """Run the remaining steps. Returns why training stopped early, or None."""
        run, config = self.run, self.run.config
        if self.step and self.step % run.steps_per_epoch == 0:
            if self.passed(config.max_minutes, since=self.started):  # in an earlier start
                return "max_minutes"
        batches = train_batches(
            run.training,
            joints=run.joints,
            image_size=config.image_size,
            batch_size=config.batch_size,
            rule=run.rules,
            augmentation=augmentation_of(config),
            seed=config.seed,
            start_step=self.step,
            workers=config.workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        with contextlib.closing(batches):
            train = self.train_first
            while self.step < run.num_steps:
                with profiler.before_step(self.step, self.state.step):
                    train(batches)
                train = self.train_next
                epoch_ended = self.step % run.steps_per_epoch == 0
                if self.step % config.log_every_steps == 0:
                    self.write_losses()
                more = epoch_ended and self.step < run.num_steps
                time_over = more and self.passed(config.max_minutes, since=self.started)
                if epoch_ended:
                    self.end_epoch(last=time_over or not more)
                elif self.time_to_save():
                    self.save()
                if preemption.reached():
                    self.save()
                    return "preemption"
                if time_over:
                    return "max_minutes"
        return None

    def train_first(self, batches: Iterator[Batch]) -> None:
        """Run the first step since launch; log its phases, because compilation takes long."""
        with phase("reading the first batch", log=self.log.info):
            batch = self.next_batch(batches)
        with phase("compiling the training step", log=self.log.info):
            self.train_on(batch)
            jax.block_until_ready(self.state.step)

    def train_next(self, batches: Iterator[Batch]) -> None:
        """Run one of the steps after the first."""
        self.train_on(self.next_batch(batches))

    def next_batch(self, batches: Iterator[Batch]) -> Batch:
        """Return the next batch. The wait for it counts only while the devices are idle."""
        asked = time.monotonic()
        with jax.profiler.TraceAnnotation("next_batch"):
            batch = next(batches)
        if self.state.step.is_ready():
            self.waited += time.monotonic() - asked
        return batch

    def train_on(self, batch: Batch) -> None:
        """Run one step; unreadable images are logged once."""
        for index in batch.index[~batch.readable].tolist():
            if index not in self.named:
                self.named.add(index)
                name = example_name(self.run.training, index)
                self.log.info(f"{name} could not be decoded; skipped", everywhere=True)
        needed = shard(batch._replace(index=None, crop_to_image=None))
        self.state = self.train_step(self.state, needed)
        self.step += 1

    def time_to_save(self) -> bool:
        """Whether to save now. Not asked at every step, since all processes have to agree."""
        config = self.run.config
        if self.step % min(config.log_every_steps, MAX_STEPS_BETWEEN_CHECKS):
            return False
        return self.passed(config.checkpoint_every_minutes, since=self.saved_at)

    def passed(self, minutes: float, *, since: float) -> bool:
        """Whether ``minutes`` have passed on the clock of process 0; False if ``minutes`` is 0."""
        if not minutes:
            return False
        over = time.monotonic() - since > 60 * minutes
        return bool(processes.sum_over_processes(np.int32(over and jax.process_index() == 0)))

    def check(self) -> None:
        """Raise an error if the loss is not finite or too many images are unreadable."""
        bad_step = int(unreplicate(self.state.bad_step))
        if bad_step >= 0:
            raise JaxposeError(
                f"the loss, its gradient or the update is not finite at step {bad_step}; saved "
                "checkpoints are intact. Lower optimizer.learning_rate or set optimizer.clip_norm, "
                "in another --workdir (--config.init_from continues from saved weights)"
            )
        unreadable = int(unreplicate(self.state.unreadable))
        drawn = self.step * self.run.config.batch_size
        if unreadable > max(MIN_UNREADABLE, MAX_UNREADABLE_FRACTION * drawn):
            raise JaxposeError(
                f"{unreadable} of {drawn} images could not be decoded; check the prepared data set "
                f"in {self.run.config.data_dir or default_data_dir()} and prepare it again"
            )

    def write_losses(self) -> None:
        """Log the mean losses since the last log line."""
        self.check()
        sums = {name: float(x) for name, x in unreplicate(self.state.sums).items()}
        steps = max(sums.pop("steps"), 1.0)
        means = {name: value / steps for name, value in sums.items()}
        done, since = self.step - self.window[0], time.monotonic() - self.window[1]
        rate = done * self.run.config.batch_size / max(since, 1e-9)
        waits = processes.gather_over_processes(np.float64(self.waited / max(since, 1e-9)))
        self.start_window()
        scale = float(unreplicate(self.state.plateau.scale))
        learning_rate = float(self.run.schedule(max(self.step - 1, 0))) * scale  # the last step's
        self.log.write(
            "train",
            self.step,
            {
                **means,
                "epoch": self.step / self.run.steps_per_epoch,
                "learning_rate": learning_rate,
                "images_per_second": round(rate, 1),
                "data_wait": round(float(waits.max()), 3),
                "seconds": round(self.seconds(), 1),
                "unreadable": int(unreplicate(self.state.unreadable)),
            },
        )
        text = f"loss {means['loss']:.4f}, {rate:.0f} images/s, learning rate {learning_rate:.2e}"
        self.log.progress(self.step, text + waiting_text(waits, rate))
        self.state = self.state._replace(sums=replicate(empty_sums()))

    def start_window(self) -> None:
        """Start a new window for measuring images per second and waiting time."""
        self.window, self.waited = (self.step, time.monotonic()), 0.0

    def end_epoch(self, *, last: bool) -> None:
        """Validate if due or last, update the plateau, save the best and latest checkpoints."""
        self.check()
        epoch = self.step // self.run.steps_per_epoch
        due = epoch % self.run.config.validate_every_epochs == 0
        if due or last:
            self.validate(epoch, due=due)
        self.save()

    def validate(self, epoch: int, *, due: bool) -> None:
        """Evaluate on the data sets of ``config.validation`` and update the plateau.

        The best variables are saved. A validation that is not due leaves the plateau as it is, so
        that a run that is resumed after it trains as if it had not been stopped.
        """
        variables = unreplicate(evaluation_variables(self.state))
        validation = self.validator.validate(variables)
        metric = validation.metric
        best = float(unreplicate(self.state.best_metric))
        # NaN: no metric; the plateau would reduce the learning rate
        if due and not math.isnan(metric):
            plateau = self.run.plateau_update(unreplicate(self.state.plateau), metric)
            self.state = self.state._replace(plateau=replicate(plateau))
        if np.float32(metric) > best:  # float32, as in the state; False for NaN
            best = metric
            self.state = self.state._replace(best_metric=replicate(jnp.float32(metric)))
            self.save_best(variables, self.metadata()._replace(metric=metric))
        self.log.write(
            "validation",
            self.step,
            {
                "epoch": epoch,
                "metric": metric,
                "best": best,
                "steered_by": self.validator.choice.metric,
                "loss": validation.loss,
                "losses": validation.losses,
                "rows": validation.rows_to_json(),
                "seconds": round(self.seconds(), 1),
            },
        )
        parts = [f"epoch {epoch}"]
        if self.validator.choice.metric not in ("", LOSS):
            parts.append(f"{self.validator.choice.metric} {metric:.2f} (best {best:.2f})")
        if validation.losses:
            parts.append(f"validation loss {validation.loss:.4f}")
        self.log.progress(self.step, ", ".join(parts))
        self.start_window()

    def metadata(self) -> CheckpointMetadata:
        """Return the metadata of this step's checkpoint."""
        return metadata_of(self.run, trained=self.trained, step=self.step, seconds=self.seconds())

    def save_best(self, variables: dict, metadata: CheckpointMetadata) -> None:
        """Save the best variables.

        The best checkpoint must be complete before the latest one is saved, which records the best
        metric. Otherwise, a run killed in between would refer to a best checkpoint that does not
        exist.
        """
        store.save(self.managers["best"], self.step, variables, metadata, wait=True)

    def save(self) -> None:
        """Save the whole state as the latest checkpoint, unless this step is already saved.

        Without a metric, the newest checkpoint counts as the best.
        """
        if self.step == self.saved_step:
            return
        self.check()
        self.log.upload()
        if not self.validator.choice.metric:
            self.save_best(unreplicate(evaluation_variables(self.state)), self.metadata())
        store.save(
            self.managers["latest"],
            self.step,
            unreplicate(self.state),
            self.metadata(),
        )
        self.saved_at, self.saved_step = time.monotonic(), self.step
