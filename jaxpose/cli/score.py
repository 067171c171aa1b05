"""``jaxpose score PROTOCOL FILE.npz``: evaluate predictions by a protocol of the paper."""

import json
import os

from jaxpose.paths import local_path


def add(commands) -> None:
    """Register the command."""
    parser = commands.add_parser(
        "score",
        help="evaluate predictions by a protocol of the paper",
        description="Evaluates the predictions in an .npz file and prints the paper's columns.",
        epilog="FILE.npz contains the arrays prediction [persons, joints, 2], ground_truth, "
        "labeled, joint_names (and prediction_joint_names if the prediction's joints differ), and, "
        "for MPII, head_size.",
    )
    parser.add_argument("protocol", metavar="PROTOCOL", help="mpii-pckh, lsp-pck or lsp-pcp")
    parser.add_argument("file", metavar="FILE.npz", type=local_path, help="file of predictions")
    parser.add_argument("--json", action="store_true", help="print all rates and counts as JSON")
    parser.add_argument("--paper", action="store_true", help="add the rows of the paper's tables")
    parser.add_argument(
        "--separated",
        action="store_true",
        help="evaluate only persons for which the array 'separated' is true: MPII's single-person "
        "subset",
    )
    parser.set_defaults(run=run)


def run(arguments) -> None:
    """Print the metrics of a file of predictions."""
    from jaxpose.evaluation import labeled_predictions, protocol_results, protocols, tables

    protocol = protocols.named(arguments.protocol)
    predictions = labeled_predictions.read_predictions(
        arguments.file, default_joints=protocol.joints
    )
    found = protocol_results.evaluate(protocol, predictions, separated_only=arguments.separated)
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
