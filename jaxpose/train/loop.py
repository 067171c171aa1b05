"""The training loop: steps, log lines, validation, checkpoints."""

import contextlib
import math
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxpose import checkpoint, cluster, input_pipeline
from jaxpose.errors import JaxposeError
from jaxpose.phases import phase
from jaxpose.prepared import default_data_dir
from jaxpose.run_log import RunLog
from jaxpose.train.run import Run, augmentation_of
from jaxpose.train.scoring import validation_table
from jaxpose.train.start import Start, metadata
from jaxpose.train_step import (
    empty_sums,
    evaluation_variables,
    make_train_step,
    parallel,
    replicate,
    shard,
    unreplicate,
)

MOST_UNREADABLE = 0.01  # share of the pictures drawn so far that may fail to decode
FEWEST_UNREADABLE = 3  # so that one bad picture among the first hundred does not stop a run
MUCH_WAITING = 0.05  # share of the time, from which on a line says so
STEP_NEEDS = ("image", "keypoints", "labelled", "known", "weight", "readable")  # of a batch


class Loop:
    """The loop's few moving parts: the state on the devices, the step, and the seconds spent.

    Args:
      run: from `open_run`.
      log: of process 0; the others' writes nothing.
      managers: of the folders "latest" and "best".
      start: where the run stands.
    """

    def __init__(self, run: Run, log: RunLog, managers: dict[str, Any], start: Start):
        config = run.config
        self.run, self.log, self.managers = run, log, managers
        self.state, self.trained = replicate(start.state), start.trained
        self.step = int(start.state.step)
        now = time.monotonic()
        self.started = now - start.seconds
        self.saved_at, self.saved_step = now, self.step
        self.window = (self.step, now)  # where images per second are counted from
        self.waited = 0.0  # seconds of the window for which the devices had no batch, at most
        self.named: set[int] = set()  # persons whose picture was said not to decode
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
        """Spent on the run, earlier starts included."""
        return time.monotonic() - self.started

    def go(self, preemption: cluster.Preemption) -> str | None:
        """Work through the steps that are left; why it ended early, or None."""
        run, config = self.run, self.run.config
        batches = input_pipeline.train_batches(
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
                train(batches)
                train = self.train_next
                epoch_ended = self.step % run.steps_per_epoch == 0
                if self.step % config.log_every_steps == 0:
                    self.write_losses()
                if epoch_ended:
                    self.end_epoch()
                elif self.time_to_save():
                    self.save()
                if preemption.reached():
                    self.save()
                    return "preemption"
                more = epoch_ended and self.step < run.num_steps
                if more and self.passed(config.max_minutes, since=self.started):
                    return "max_minutes"
        return None

    def train_first(self, batches: Iterator[dict]) -> None:
        """The first step of this start, which compiles the program: phases until it is done."""
        with phase("reading the first batch", say=self.log.say):
            batch = self.next_batch(batches)
        with phase("compiling the training step", say=self.log.say):
            self.train_on(batch)
            jax.block_until_ready(self.state.step)

    def train_next(self, batches: Iterator[dict]) -> None:
        """Any further step."""
        self.train_on(self.next_batch(batches))

    def next_batch(self, batches: Iterator[dict]) -> dict:
        """The next batch. Waiting for it counts where the devices have nothing left to do."""
        asked = time.monotonic()
        batch = next(batches)
        if self.state.step.is_ready():
            self.waited += time.monotonic() - asked
        return batch

    def train_on(self, batch: dict) -> None:
        """One step; a picture that does not decode is named the first time."""
        for index in batch["index"][~batch["readable"]].tolist():
            if index not in self.named:
                self.named.add(index)
                name = input_pipeline.example_name(self.run.training, index)
                self.log.say(f"{name} does not decode; left out", everywhere=True)
        needed = {name: batch[name] for name in STEP_NEEDS}
        self.state = self.train_step(self.state, shard(needed))
        self.step += 1

    def time_to_save(self) -> bool:
        """Asked at the log's steps alone, since several processes have to agree."""
        config = self.run.config
        if self.step % config.log_every_steps:
            return False
        return self.passed(config.checkpoint_every_minutes, since=self.saved_at)

    def passed(self, minutes: float, *, since: float) -> bool:
        """Whether that many minutes (0: never) are over, by the clock of process 0."""
        if not minutes:
            return False
        over = time.monotonic() - since > 60 * minutes
        return bool(cluster.sum_over_processes(np.int32(over and jax.process_index() == 0)))

    def check(self) -> None:
        """Stop at a loss that is not finite and at too many unreadable pictures."""
        bad_step = int(unreplicate(self.state.bad_step))
        if bad_step >= 0:
            raise JaxposeError(
                f"the loss, its gradient or the update is not finite at step {bad_step}; the last "
                "checkpoint before it is whole. Lower optimizer.learning_rate or set "
                "optimizer.clip_norm"
            )
        unreadable = int(unreplicate(self.state.unreadable))
        drawn = self.step * self.run.config.batch_size
        if unreadable > max(FEWEST_UNREADABLE, MOST_UNREADABLE * drawn):
            raise JaxposeError(
                f"{unreadable} of {drawn} pictures did not decode; check the prepared data set in "
                f"{self.run.config.data_dir or default_data_dir()} and prepare it again"
            )

    def write_losses(self) -> None:
        """One line of mean losses since the last one."""
        self.check()
        sums = {name: float(x) for name, x in unreplicate(self.state.sums).items()}
        steps = max(sums.pop("steps"), 1.0)
        means = {name: value / steps for name, value in sums.items()}
        done, since = self.step - self.window[0], time.monotonic() - self.window[1]
        rate = done * self.run.config.batch_size / max(since, 1e-9)
        data_wait = self.waited / max(since, 1e-9)
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
                "data_wait": round(data_wait, 3),
                "seconds": round(self.seconds(), 1),
                "unreadable": int(unreplicate(self.state.unreadable)),
            },
        )
        text = f"loss {means['loss']:.4f}, {rate:.0f} images/s, rate {learning_rate:.2e}"
        if data_wait >= MUCH_WAITING:
            text += f", {data_wait:.0%} of the time waiting for pictures"
        self.log.progress(self.step, text)
        self.state = self.state._replace(sums=replicate(empty_sums()))

    def start_window(self) -> None:
        """Images per second and waiting are counted from here."""
        self.window, self.waited = (self.step, time.monotonic()), 0.0

    def end_epoch(self) -> None:
        """Validation where it is due, plateau, best and latest checkpoint."""
        self.check()
        epoch = self.step // self.run.steps_per_epoch
        due = epoch % self.run.config.validate_every_epochs == 0
        if due or self.step == self.run.num_steps:
            self.validate(epoch)
        self.save()

    def validate(self, epoch: int) -> None:
        """Score the validation rows, tell the plateau, keep the variables if they are the best."""
        run = self.run
        variables = unreplicate(evaluation_variables(self.state))
        table, score = validation_table(run, variables, trained=self.trained)
        best = float(unreplicate(self.state.best_score))
        if not math.isnan(score):  # of a run that nothing steers; the plateau would cut its rate
            plateau = run.plateau_update(unreplicate(self.state.plateau), score)
            self.state = self.state._replace(plateau=replicate(plateau))
        if np.float32(score) > best:  # as the state holds it; never, for NaN
            best = score
            self.state = self.state._replace(best_score=replicate(jnp.float32(score)))
            described = {**self.metadata(), "score": score}
            # Whole before the latest checkpoint, which holds its score, can be: else a kill in
            # between would leave a run that thinks it has a best checkpoint.
            checkpoint.save(self.managers["best"], self.step, variables, described, wait=True)
        self.log.write(
            "validation",
            self.step,
            {
                "epoch": epoch,
                "score": score,
                "best": best,
                "rows": table,
                "seconds": round(self.seconds(), 1),
            },
        )
        self.log.progress(self.step, f"epoch {epoch}: score {score:.2f} (best {best:.2f})")
        self.start_window()

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint of this step says of itself."""
        return metadata(self.run, self.trained, self.step, self.seconds())

    def save(self) -> None:
        """Save the whole state as the latest checkpoint, unless this step's is there."""
        if self.step == self.saved_step:
            return
        self.check()
        checkpoint.save(
            self.managers["latest"],
            self.step,
            unreplicate(self.state),
            self.metadata(),
        )
        self.saved_at, self.saved_step = time.monotonic(), self.step
