"""``jaxpose score PROTOCOL FILE.npz``: a file of predictions by a protocol of the paper."""

import json
import os

from jaxpose.paths import local_path


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "score",
        help="evaluate predictions by a protocol of the paper",
        description="Evaluates the predictions in an .npz file and prints the paper's columns.",
        epilog="FILE.npz holds prediction [persons, joints, 2], ground_truth, labeled, for MPII "
        "head_size, and joint_names (prediction_joint_names where the prediction's joints differ).",
    )
    parser.add_argument("protocol", metavar="PROTOCOL", help="mpii-pckh, lsp-pck or lsp-pcp")
    parser.add_argument("file", metavar="FILE.npz", type=local_path)
    parser.add_argument("--json", action="store_true", help="every rate and count as JSON")
    parser.add_argument("--paper", action="store_true", help="add the rows of the paper's tables")
    parser.add_argument(
        "--separated",
        action="store_true",
        help="only the persons that the array separated marks: MPII's single-person subset",
    )
    parser.set_defaults(run=run)


def run(arguments) -> None:
    """Print the metrics of a file of predictions."""
    from jaxpose.evaluation import labeled_predictions, metrics, protocols, tables

    protocol = protocols.named(arguments.protocol)
    predictions = labeled_predictions.read_predictions(
        arguments.file, default_joints=protocol.joints
    )
    counts = metrics.count(protocol, predictions, separated_only=arguments.separated)
    found = metrics.result(protocol, counts)
    subset = ["separated persons"] if arguments.separated else []
    description = ", ".join(filter(None, [predictions.description, *subset]))
    if arguments.json:
        record = {**found.to_json(), "description": description}
        if arguments.paper:
            record["paper"] = tables.paper_dicts(protocol)
        print(json.dumps(record, indent=1, allow_nan=False))
        return
    print(
        tables.text(
            found,
            label=os.path.basename(arguments.file),
            description=description,
            paper=arguments.paper,
        )
    )
