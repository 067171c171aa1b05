"""Train or evaluate a network: `python launch.py --config=configs/X.py[:PRESET] --workdir=DIR`.

Re-running the command resumes the run. `--config.FIELD=VALUE` overrides a field. After training,
the run's best checkpoint is evaluated on the test data (`config.test`), and the results are
written to WORKDIR/report.html; `--mode=eval` runs only this evaluation. On a cluster, start one
process per host (or device) with the same command; see docs/clusters.md.
"""

import contextlib
import sys

from jaxpose.cli.exits import run_command, silence_library_logs
from jaxpose.cli.launch_flags import parse
from jaxpose.runtime.host_memory import keep_freed_memory
from jaxpose.runtime.phases import phase


def run(values) -> None:
    """Train or evaluate, depending on the flags."""
    if values.help:
        print(f"{__doc__}\n{values.module_help('launch')}")
        return
    keep_freed_memory()
    with phase("loading JAX"):
        import jax

        from jaxpose.runtime import processes
        from jaxpose.runtime.compilation import use_compilation_cache
        from jaxpose.training import loop

        use_compilation_cache()
        processes.initialize(
            values.coordinator,
            values.num_processes,
            values.process_id,
            heartbeat_seconds=values.heartbeat_seconds,
        )
    if values.mode == "eval":
        evaluate_and_report(values.config, values.workdir, values.checkpoint)
        return
    result = loop.train(values.config, values.workdir, profile_steps=values.profile_steps)
    if jax.process_index() == 0:
        print(f"{result}, in {values.workdir.rstrip('/')}")
    if values.config.report and values.config.test and result.stopped != "preemption":
        evaluate_and_report(values.config, values.workdir)


def evaluate_and_report(config, workdir: str, checkpoint: str = "") -> None:
    """Evaluate a checkpoint on the test data, print the tables, write the report."""
    import jax

    from jaxpose import report
    from jaxpose.evaluation import evaluate
    from jaxpose.training.config import check_fields, data_rows

    check_fields(config)
    first = jax.process_index() == 0
    with phase("evaluating the test data") if first else contextlib.nullcontext():
        evaluation = evaluate.evaluate_checkpoint(config, workdir, path=checkpoint)
    if not first:
        return
    print(evaluate.report_text(evaluation))
    if config.report:
        with phase("writing the report"):
            page = report.report_run(
                workdir, evaluation, data_rows(config), data_dir=config.data_dir
            )
        print(f"\nreport: {page}")


def main(argv: list[str]) -> int:
    """Run the command and return the exit status."""
    interrupted = "interrupted; re-run the command (training resumes from its last checkpoint)"
    return run_command(lambda: run(parse(argv)), interrupted=interrupted)


if __name__ == "__main__":
    silence_library_logs()
    sys.exit(main(sys.argv))
