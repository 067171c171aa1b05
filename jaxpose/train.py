"""Training and evaluation of a config: data, loop, log, checkpoints.

`train(config, workdir)` runs or resumes a run; `evaluate_checkpoint(config, workdir)` scores one.
The loop's position is the number of steps done: data, random numbers and learning rate are pure
functions of it, so a run that was stopped anywhere continues as if nothing had happened.
"""

import contextlib
import json
import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from jaxpose import checkpoint, cluster, evaluate, geometry, input_pipeline, optimizer
from jaxpose.augment import Augmentation
from jaxpose.errors import JaxposeError
from jaxpose.network import PoseNet, initial_variables
from jaxpose.prediction_file import write_predictions
from jaxpose.run_log import RunLog
from jaxpose.skeleton import joint_index, skeleton_of
from jaxpose.train_step import (
    DEVICES,
    TrainState,
    create_train_state,
    empty_sums,
    evaluation_variables,
    make_train_step,
    parallel,
    replicate,
    shard,
    unreplicate,
)
from jaxpose.transfer import transfer
from jaxpose.workdir import prepare_workdir

MOST_UNREADABLE = 0.01  # share of the pictures drawn so far that may fail to decode
FEWEST_UNREADABLE = 3  # so that one bad picture among the first hundred does not stop a run


class Run(NamedTuple):
    """What a config describes, opened; built once, then only read."""

    config: ml_collections.ConfigDict
    joints: tuple[str, ...]
    arguments: dict[str, Any]
    net: PoseNet
    rule: geometry.CropRule
    training: list[tuple[input_pipeline.PreparedSplit, float]]
    validation: list[tuple[input_pipeline.PreparedSplit, str, float]]
    steps_per_epoch: int
    num_steps: int
    schedule: Any
    optimizer: Any
    plateau_init: Any
    plateau_update: Any


def train(config: ml_collections.ConfigDict, workdir: str | pathlib.Path) -> dict[str, Any]:
    """Train, or go on with what lies in `workdir`, until the config's last epoch.

    Returns:
      {"step", "num_steps", "score", "stopped"}: steps done and planned, the best validation score,
      and "preemption", "max_minutes" or None: what ended it before the last epoch.

    Raises:
      JaxposeError: config, data, workdir or a loss that is not finite.
    """
    check_config(config)
    with prepare_workdir(workdir, config.to_dict()) as folder:
        run = open_run(config)
        return _train_in(run, folder)


def open_run(config: ml_collections.ConfigDict) -> Run:
    """Open the data sets of a config and build its network and optimiser."""
    training = []
    for entry in config.data:
        name, split, weight = (entry[0], "train", entry[1]) if len(entry) == 2 else entry
        training.append(
            (input_pipeline.open_split(name, split, data_dir=config.data_dir), float(weight))
        )
    validation = [
        (input_pipeline.open_split(name, split, data_dir=config.data_dir), crop, float(weight))
        for name, split, crop, weight in config.validation
    ]
    steps_per_epoch = input_pipeline.steps_per_epoch(training, config.batch_size)
    if steps_per_epoch < 1:
        raise JaxposeError(
            f"batch_size is {config.batch_size}, more than the persons of an epoch; lower it"
        )
    num_steps = steps_per_epoch * config.num_epochs
    schedule = optimizer.make_schedule(
        config.optimizer.schedule,
        config.optimizer.learning_rate,
        num_steps=num_steps,
        warmup_steps=round(config.optimizer.warmup_epochs * steps_per_epoch),
    )
    plateau_init, plateau_update = optimizer.make_plateau(**config.plateau.to_dict())
    arguments = network_arguments(config)
    return Run(
        config=config,
        joints=tuple(config.joints),
        arguments=arguments,
        net=make_net(
            arguments,
            dtype=config.dtype,
            axis_name=DEVICES,
            rematerialise=config.rematerialise,
        ),
        rule=evaluate.crop_rule(config.crop),
        training=training,
        validation=validation,
        steps_per_epoch=steps_per_epoch,
        num_steps=num_steps,
        schedule=schedule,
        optimizer=optimizer.make_optimizer(
            config.optimizer.name,
            schedule,
            weight_decay=config.optimizer.weight_decay,
            clip_norm=config.optimizer.clip_norm,
        ),
        plateau_init=plateau_init,
        plateau_update=plateau_update,
    )


def check_config(config: ml_collections.ConfigDict) -> None:
    """Raise a JaxposeError for values that cannot work together."""
    devices = jax.device_count()
    parts = devices * config.accumulation_steps
    if config.batch_size < 1 or config.batch_size % parts:
        what = f"{devices} devices" + (
            f" times {config.accumulation_steps} accumulation steps"
            if config.accumulation_steps > 1
            else ""
        )
        raise JaxposeError(
            f"batch_size {config.batch_size} is not divisible by {what}; the next one that is: "
            f"{max(math.ceil(config.batch_size / parts), 1) * parts}"
        )
    if config.image_size % 32:
        raise JaxposeError(
            f"image_size {config.image_size} is not divisible by 32; the next one that is: "
            f"{math.ceil(config.image_size / 32) * 32}"
        )
    if not 0.0 <= config.ema < 1.0:
        raise JaxposeError(f"ema is {config.ema}; it must be at least 0 and below 1")
    if config.dtype not in ("float32", "bfloat16"):
        raise JaxposeError(f"dtype is {config.dtype!r}; choose 'float32' or 'bfloat16'")


def network_arguments(config: ml_collections.ConfigDict) -> dict[str, Any]:
    """`PoseNet`'s arguments as a plain dict, as a checkpoint records them."""
    return {"num_joints": len(config.joints), **config.network.to_dict()}


def make_net(
    arguments: dict[str, Any], *, dtype: str = "float32", axis_name: str | None = None,
    rematerialise: bool = False,
) -> PoseNet:  # fmt: skip
    """The network of recorded arguments; computing in `dtype`, synchronised over `axis_name`."""
    return PoseNet(
        **arguments, dtype=jnp.dtype(dtype), axis_name=axis_name, rematerialise=rematerialise
    )


def metadata(run: Run, step: int, seconds: float) -> dict[str, Any]:
    """What a checkpoint of this run says of itself."""
    skeleton = skeleton_of(run.joints)
    trained = np.zeros(len(run.joints), bool)
    for split, _ in run.training:
        place = joint_index(split.joints, run.joints)
        trained |= np.where(place >= 0, np.asarray(split.annotated)[place], False)
    return {
        "network": run.arguments,
        "joints": list(run.joints),
        "flip_pairs": [list(pair) for pair in skeleton.flip_pairs],
        "limbs": [list(pair) for pair in skeleton.limbs],
        "trained_joints": [n for n, t in zip(run.joints, trained, strict=True) if t],
        "image_size": run.config.image_size,
        "crop": run.rule._asdict(),
        "step": step,
        "seconds": round(seconds, 1),
    }


def initial_state(run: Run) -> tuple[TrainState, list[str]]:
    """The state before the first step, as host arrays, and what to say of `init_from`."""
    config = run.config
    variables = initial_variables(run.net, config.seed)
    notes = []
    if config.init_from:
        source, described, folder = checkpoint.load(config.init_from)
        variables, report = transfer(variables, run.arguments, run.joints, source, described)
        notes.append(f"init_from {folder}: {len(report.taken)} variables taken")
        notes += [f"  {note}" for note in report.notes]
        notes += [f"  {name} starts fresh: {why}" for name, why in report.fresh.items()]
        if not report.taken:
            raise JaxposeError(f"nothing in {folder} fits this network; check config.init_from")
    state = create_train_state(variables, run.optimizer, run.plateau_init(), ema=config.ema > 0)
    return jax.tree.map(np.asarray, state), notes


def _train_in(run: Run, folder: pathlib.Path) -> dict[str, Any]:
    config = run.config
    fresh, notes = initial_state(run)
    restored = checkpoint.restore_newest(folder / "checkpoints" / "latest", fresh)
    state, seconds = fresh, 0.0
    if restored is not None:
        state, described = restored
        seconds = described["seconds"]
        notes = [f"resumed at step {int(state.step)} of {run.num_steps}"]
    step = int(state.step)
    first = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        run_log = RunLog(folder, step=step, num_steps=run.num_steps, active=first)
        stack.callback(run_log.close)
        preemption = stack.enter_context(cluster.Preemption())
        managers = {
            name: checkpoint.open_manager(folder / "checkpoints" / name, keep=keep)
            for name, keep in (("latest", 2), ("best", 1))
        }
        for manager in managers.values():
            stack.callback(checkpoint.finish, manager)
        # What lies beyond the restored step could not be read, or belongs to what is done again.
        for later in managers["latest"].all_steps():
            if later > step:
                managers["latest"].delete(later)
        for note in notes:
            run_log.say(note)
        loop = _Loop(run, run_log, managers, replicate(state), step, seconds)
        if step < run.num_steps:
            stopped = loop.go(preemption)
        else:
            stopped = None
        return {
            "step": loop.step,
            "num_steps": run.num_steps,
            "score": float(unreplicate(loop.state.best_score)),
            "stopped": stopped,
        }


class _Loop:
    """The loop's few moving parts: the state on the devices, the step, and the seconds spent."""

    def __init__(self, run, run_log, managers, state, step, seconds):
        config = run.config
        self.run, self.log, self.managers = run, run_log, managers
        self.state, self.step = state, step
        self.seconds_before, self.started = seconds, time.monotonic()
        self.last_save = time.monotonic()
        self.window = (step, time.monotonic())
        self.train_step = parallel(
            make_train_step(
                run.net,
                run.optimizer,
                probability_weight=config.probability_weight,
                ema_decay=config.ema,
                accumulation_steps=config.accumulation_steps,
                frozen_norm=config.frozen_norm,
            ),
            donate=True,
        )

    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    def go(self, preemption) -> str | None:
        """Work through the steps that are left; why it ended early, or None."""
        run, config = self.run, self.run.config
        if self.step and self.step % run.steps_per_epoch == 0:
            self.end_epoch()  # the kill came between the epoch's last step and its validation
        batches = input_pipeline.train_batches(
            run.training,
            joints=run.joints,
            image_size=config.image_size,
            batch_size=config.batch_size,
            rule=run.rule,
            augmentation=augmentation_of(config),
            seed=config.seed,
            start_step=self.step,
            workers=config.workers,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        with contextlib.closing(batches):
            while self.step < run.num_steps:
                self.state = self.train_step(self.state, shard(_on_device(next(batches))))
                self.step += 1
                if self.step % config.log_every_steps == 0:
                    self.write_losses()
                if self.step % run.steps_per_epoch == 0:
                    self.end_epoch()
                    if config.max_minutes and self.seconds() > 60 * config.max_minutes:
                        return "max_minutes"
                elif self._time_to_save():
                    self.save()
                if preemption.reached(self.step):
                    self.save()
                    return "preemption"
        return None

    def _time_to_save(self) -> bool:
        """By process 0's clock, asked at the log's steps so that all processes agree."""
        config = self.run.config
        if self.step % config.log_every_steps or not config.checkpoint_every_minutes:
            return False
        due = time.monotonic() - self.last_save > 60 * config.checkpoint_every_minutes
        return bool(cluster.sum_over_processes(np.int32(due and jax.process_index() == 0)))

    def check(self, sums) -> None:
        """Stop at a loss that is not finite and at too many unreadable pictures."""
        bad_step = int(unreplicate(self.state.bad_step))
        if bad_step >= 0:
            raise JaxposeError(
                f"the loss or its gradient is not finite at step {bad_step}; the last checkpoint "
                "before it is whole. Lower optimizer.learning_rate or set optimizer.clip_norm"
            )
        unreadable = int(unreplicate(self.state.unreadable))
        drawn = self.step * self.run.config.batch_size
        if unreadable > max(FEWEST_UNREADABLE, MOST_UNREADABLE * drawn):
            raise JaxposeError(
                f"{unreadable} of {drawn} pictures did not decode; check the prepared data set in "
                f"{self.run.config.data_dir or 'the default data_dir'} and prepare it again"
            )

    def write_losses(self) -> None:
        """One line of mean losses since the last one."""
        sums = {name: float(x) for name, x in unreplicate(self.state.sums).items()}
        self.check(sums)
        steps = max(sums.pop("steps"), 1.0)
        means = {name: value / steps for name, value in sums.items()}
        now = time.monotonic()
        done, since = self.step - self.window[0], now - self.window[1]
        rate = done * self.run.config.batch_size / max(since, 1e-9)
        self.window = (self.step, now)
        learning_rate = float(self.run.schedule(self.step)) * float(
            unreplicate(self.state.plateau.scale)
        )
        self.log.write(
            "train",
            self.step,
            {
                **means,
                "epoch": self.step / self.run.steps_per_epoch,
                "learning_rate": learning_rate,
                "images_per_second": round(rate, 1),
                "seconds": round(self.seconds(), 1),
                "unreadable": int(unreplicate(self.state.unreadable)),
            },
        )
        self.log.progress(
            self.step,
            f"loss {means['loss']:.4f}, {rate:.0f} images/s, rate {learning_rate:.2e}",
        )
        self.state = self.state._replace(sums=replicate(empty_sums()))

    def end_epoch(self) -> None:
        """Validation, plateau, best and latest checkpoint; nothing where it was done before."""
        epoch = self.step // self.run.steps_per_epoch
        if int(unreplicate(self.state.epochs_validated)) >= epoch:
            return
        self.check(None)
        last = self.step == self.run.num_steps
        if epoch % self.run.config.validate_every_epochs == 0 or last:
            self.validate(epoch)
        self.state = self.state._replace(epochs_validated=replicate(jnp.int32(epoch)))
        self.save()

    def validate(self, epoch: int) -> None:
        run = self.run
        variables = unreplicate(evaluation_variables(self.state))
        table, score = validation_table(run, variables)
        best = float(unreplicate(self.state.best_score))
        plateau = run.plateau_update(unreplicate(self.state.plateau), score)
        self.state = self.state._replace(plateau=replicate(plateau))
        self.log.write(
            "validation",
            self.step,
            {
                "epoch": epoch,
                "score": score,
                "best": max(best, score) if score == score else best,
                "rows": table,
                "seconds": round(self.seconds(), 1),
            },
        )
        self.log.progress(self.step, f"epoch {epoch}: score {score:.2f} (best {best:.2f})")
        if score > best:
            self.state = self.state._replace(best_score=replicate(jnp.float32(score)))
            described = {**metadata(run, self.step, self.seconds()), "score": score}
            checkpoint.save(self.managers["best"], self.step, variables, described)
        self.window = (self.step, time.monotonic())

    def save(self) -> None:
        """Save the whole state as the latest checkpoint."""
        self.check(None)
        checkpoint.save(
            self.managers["latest"],
            self.step,
            unreplicate(self.state),
            metadata(self.run, self.step, self.seconds()),
        )
        self.last_save = time.monotonic()


def _on_device(batch: dict) -> dict:
    """What the step needs of a batch."""
    names = ("image", "keypoints", "labelled", "known", "weight", "readable")
    return {name: batch[name] for name in names}


def augmentation_of(config: ml_collections.ConfigDict) -> Augmentation:
    """The config's augmentation as plain values."""
    values = config.augmentation.to_dict()
    return Augmentation(**{**values, "scale": tuple(values["scale"])})


def validation_table(run: Run, variables: dict) -> tuple[dict[str, Any], float]:
    """Per validation row the protocols' totals and joints, and the score that steers the run.

    The score is the mean of the rows' `config.score` totals, weighted as the config has it.
    """
    rows, scores, weights = {}, [], []
    for split, crop, weight in run.validation:
        answers = evaluate.predict_split(
            run.net,
            variables,
            split,
            joints=run.joints,
            image_size=run.config.image_size,
            batch_size=run.config.eval.batch_size,
            rule=evaluate.crop_rule(crop),
            workers=run.config.workers,
        )
        found = evaluate.score_answers(
            answers,
            input_pipeline.annotations(split),
            joints=run.joints,
            truth_joints=split.joints,
        )
        rows[f"{split.name}:{split.split} ({crop})"] = {
            name: {
                "total": result["total"],
                "columns": result["columns"],
                "joints": {part: x["rate"] for part, x in result["parts"].items()},
            }
            for name, result in found.items()
        }
        if weight:
            total = found[run.config.score]["total"]
            scores.append(weight * (math.nan if total is None else total))
            weights.append(weight)
    return rows, sum(scores) / sum(weights) if weights else math.nan


def evaluate_checkpoint(
    config: ml_collections.ConfigDict, workdir: str | pathlib.Path, *, path: str = ""
) -> dict[str, Any]:
    """Score a checkpoint on the config's test rows; predictions go to `workdir`/predictions.

    Args:
      config: `test` rows of (data set, split, crop); `eval` has flip_test, num_crops, batch_size.
      workdir: of the run, or any folder for the results.
      path: a checkpoint folder or another workdir; by default `workdir`'s best.

    Returns:
      {"checkpoint", "rows": {row: {protocol: result}}, "blocks": {row: [total per block]}}.
    """
    workdir = pathlib.Path(workdir).expanduser().absolute()
    variables, described, folder = checkpoint.load(path or workdir, which=config.eval.checkpoint)
    net = make_net(described["network"], dtype=config.dtype)
    joints, trained = tuple(described["joints"]), tuple(described["trained_joints"])
    size = described["image_size"]
    like = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    checkpoint.check_variables(variables, like, folder)
    (workdir / "predictions").mkdir(parents=True, exist_ok=True)
    report = {"checkpoint": str(folder), "step": described["step"], "score": config.score}
    report |= {"rows": {}, "blocks": {}}
    for name, part, crop in config.test:
        split = input_pipeline.open_split(name, part, data_dir=config.data_dir)
        answers = evaluate.predict_split(
            net,
            variables,
            split,
            joints=joints,
            image_size=size,
            batch_size=config.eval.batch_size,
            rule=evaluate.crop_rule(crop),
            workers=config.workers,
            flip_test=config.eval.flip_test,
            num_crops=config.eval.num_crops,
        )
        truth = input_pipeline.annotations(split)
        options = {"joints": joints, "truth_joints": split.joints, "trained": trained}
        row = f"{name}:{part} ({evaluate.CROP_NAMES[crop]})"
        report["rows"][row] = evaluate.score_answers(answers, truth, **options)
        report["blocks"][row] = [
            evaluate.score_answers(answers, truth, block=k, **options)[config.score]["total"]
            for k in range(net.num_blocks)
        ]
        if jax.process_index() == 0:
            predictions = evaluate.predictions_of(answers, truth, description=row, **options)
            file = f"{name.replace('/', '-')}-{part}-{crop}.npz"
            write_predictions(workdir / "predictions" / file, predictions)
    if jax.process_index() == 0:
        text = json.dumps(report, indent=1)
        (workdir / "evaluation.json").write_text(text + "\n", encoding="utf-8")
    return report
