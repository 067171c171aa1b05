"""Evaluates a shipped network and writes the figures and images of docs/model_card.md.

    python -m tools.model_card --data_dir DIR --no_person DIR [--checkpoint PATH] [--photo FILE]

The page's text is written by hand; this command replaces the page's images and the text between the
comments `figures` and `end of figures`.
"""

import functools
import pathlib
import textwrap

import numpy as np
from scipy.special import expit

import tools
from jaxpose import PoseEstimator, geometry
from jaxpose.checkpoints import DEFAULT_NETWORK, packed, store
from jaxpose.checkpoints.store import Network
from jaxpose.data import prepared
from jaxpose.data.images import decode
from jaxpose.data.prepared import PreparedSplit, read_example
from jaxpose.evaluation import evaluate, inference, probabilities, protocol_results, protocols
from jaxpose.evaluation.evaluation_set import evaluation_set_of
from jaxpose.evaluation.labeled_predictions import LabeledPredictions
from jaxpose.evaluation.protocol_results import ProtocolResult
from jaxpose.geometry import IMAGE_RULE, crop_image, example_crop
from jaxpose.optional import import_optional
from jaxpose.predict import panels
from jaxpose.predict.images import as_image
from jaxpose.runtime.compilation import use_compilation_cache
from jaxpose.skeleton import joint_index
from jaxpose.visualize import draw_skeleton, tile

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs"
PAGE = FOLDER / "model_card.md"
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
IMAGES = {"test_people": 24, "worst_people": 12}  # number of persons in each image
SINGLE_MAPS = ("right_ankle", "right_wrist", "head_top")  # joints whose part maps are drawn
MAP_ROWS, MAP_SIDE = 6, 128
SIDE = 192  # side in pixels of each person's square in these images
COLUMNS = 6
SEED = 0  # of the random selection of test people
CROPS = 5  # number of crops in the rows "5 crops"
TEXT_WIDTH = 110  # columns of the page


def predict(network: Network, split: PreparedSplit, crop: str, **options) -> inference.Predictions:
    """The network's predictions for a whole split."""
    return inference.predict_split(
        network.net,
        network.variables,
        split,
        joints=network.metadata.joints,
        image_size=network.metadata.image_size,
        batch_size=64,
        rule=geometry.crop_rule(crop),
        **options,
    )


def labeled(network: Network, split: PreparedSplit, predictions, block=-1) -> LabeledPredictions:
    """One block's predictions with the truth."""
    evaluation_set = evaluation_set_of(
        split, network.metadata.joints, network.metadata.trained_joints
    )
    return evaluate.labeled_predictions(predictions, evaluation_set, block=block)


def best_found(path: str | pathlib.Path, split: PreparedSplit) -> LabeledPredictions:
    """The best person that `predict` finds in each whole image."""
    estimator = PoseEstimator.from_checkpoint(path)
    found = []
    for index in range(len(split.source)):
        image, _ = decode(read_example(split, index)["image"])
        found.append(estimator.predict(image, max_persons=1, min_score=0.0).keypoints[0])
    truth = prepared.annotations(split)
    return LabeledPredictions(
        prediction=np.stack(found),
        ground_truth=truth.keypoints,
        labeled=truth.labeled,
        joints=split.joints,
        prediction_joints=estimator.joints,
    )


def evaluated(name: str, predictions: LabeledPredictions) -> ProtocolResult:
    """The result of one protocol."""
    protocol = protocols.named(name)
    return protocol_results.evaluate(protocol, predictions)


def table(name: str, rows: list[tuple[str, ProtocolResult]]) -> str:
    """A Markdown table in the paper's columns."""
    protocol = protocols.named(name)
    headers = ["", *(header for _, header, _ in protocol.columns), protocol.total]
    lines = [f"| {' | '.join(headers)} |", "|---" * len(headers) + "|"]
    for label, found in rows:
        rates = [*found.columns.values(), found.total]
        lines.append(f"| {label} | " + " | ".join(f"{rate:.1f}" for rate in rates) + " |")
    return "\n".join(lines)


def inversions_text(found: ProtocolResult) -> str:
    """The number of inversions."""
    inverted, wrong = found.all_inversions
    sentence = (
        f"Of the {wrong:,} wrong joints other than neck and head top, {inverted:,} "
        f"({100 * inverted / wrong:.0f} %) are [inversions](conventions.md#metrics), at the "
        "position of the same joint on the other side."
    )
    return textwrap.fill(sentence, TEXT_WIDTH, break_on_hyphens=False, break_long_words=False)


def presence_text(predictions: inference.Predictions) -> str:
    """ROC area and reliability table of the presence, as a predictor of "labeled in the crop"."""
    probability, present = predictions.presence[-1], predictions.in_crop
    known = np.ones_like(present)
    area = probabilities.pooled_roc_area(probability, present, known)
    low, high = probabilities.roc_interval(probability, present, known)
    base = probabilities.pooled_roc_area(probabilities.base_rates(present, known), present, known)
    sentences = (
        "Area under the ROC curve of the presence as a predictor of whether a joint is labeled in "
        f"the crop: {area:.3f} (95 % interval {low:.3f} to {high:.3f}, bootstrap over people), "
        f"pooled over {present.shape[1]} joints of {len(present)} people; "
        f"{int((~present).sum()):,} of the {present.size:,} joints are not labeled in the crop. "
        f"Predicting each joint's base rate gives {base:.3f}."
    )
    lines = [
        textwrap.fill(sentences, TEXT_WIDTH, break_on_hyphens=False),
        "",
        "| presence | joints | mean presence | fraction in the crop |",
        "|---|---|---|---|",
    ]
    for row in probabilities.reliability(probability.ravel(), present.ravel()):
        lines.append(
            f"| {row.low:g} to {row.high:g} | {row.joints} | {row.probability:.3f} | "
            f"{row.present:.3f} |"
        )
    return "\n".join(lines)


def empty_text(path: str | pathlib.Path, files: list[pathlib.Path]) -> str:
    """Presence in images without people, the whole image as the crop."""
    estimator = PoseEstimator.from_checkpoint(path)
    presence = []
    for file in files:
        image = as_image(file)
        crop = example_crop({"stored_size": image.shape[1::-1]}, IMAGE_RULE)
        pixels = crop_image(image, crop, estimator.image_size)
        presence.append(expit(estimator.crop_poses(pixels[None]).logits[0]))
    rate = 100 * np.mean(np.array(presence) > 0.5)
    sentence = (
        f"On {len(presence)} images without people, with the whole image as the crop, the mean "
        f"presence is {np.mean(presence):.3f}, and {rate:.1f} % of the joints have a presence "
        "above 0.5."
    )
    return textwrap.fill(sentence, TEXT_WIDTH, break_on_hyphens=False)


def figures(
    path: str | pathlib.Path, data_dir: str, no_person: list[pathlib.Path], *, draw: bool
) -> str:
    """Compute all tables as Markdown, and draw the images if ``draw``."""
    network = store.load_network(path)
    open_split = functools.partial(prepared.open_split, data_dir=data_dir)
    test = open_split("lsp/person_centric", "test")
    observed = open_split("lsp/observer_centric", "test")
    people = open_split("mpii/crops", "validation")
    plain = predict(network, test, "image")
    person_centric = labeled(network, test, plain)
    rows = [
        ("whole image, one crop, one pass", person_centric),
        ("`predict`: the best person found", best_found(path, test)),
        ("flip test", _other(network, test, flip_test=True)),
        (f"{CROPS} crops", _other(network, test, num_crops=CROPS)),
        (f"flip test, {CROPS} crops", _other(network, test, flip_test=True, num_crops=CROPS)),
        ("crop by the box of the ground-truth joints", _other(network, test, crop="joints")),
    ]
    centric = [
        ("person-centric", person_centric),
        ("observer-centric", labeled(network, observed, plain)),
    ]
    blocks = [
        (f"block {k + 1}", labeled(network, test, plain, block=k))
        for k in range(network.net.num_blocks)
    ]
    mpii = predict(network, people, "joints")
    if draw:
        draw_images(network, test, plain, person_centric)
        draw_part_maps(path, test)

    def evaluated_rows(protocol, named):
        return table(protocol, [(label, evaluated(protocol, found)) for label, found in named])

    parts = [
        "LSP test, person-centric, PCK@0.2, 1,000 people:",
        evaluated_rows("lsp-pck", rows),
        "By prediction block, whole image, one crop, one pass:",
        evaluated_rows("lsp-pck", blocks),
        inversions_text(evaluated("lsp-pck", person_centric)),
        "LSP test, person-centric and observer-centric, whole image, one crop, one pass, "
        "PCK@0.2 and strict PCP:",
        evaluated_rows("lsp-pck", centric),
        evaluated_rows("lsp-pcp", centric),
        f"MPII, {len(people.source)} validation people, "
        "crop by the box of the ground-truth joints, PCKh@0.5:",
        evaluated_rows("mpii-pckh", [("", labeled(network, people, mpii))]),
        presence_text(mpii),
        empty_text(path, no_person),
    ]
    return "\n\n".join(parts)


def _other(network: Network, split: PreparedSplit, *, crop: str = "image", **options):
    return labeled(network, split, predict(network, split, crop, **options))


def draw_images(
    network: Network,
    split: PreparedSplit,
    found: inference.Predictions,
    predictions: LabeledPredictions,
) -> None:
    """Draw random people, and those with the largest mean joint error relative to the torso."""
    order = joint_index(predictions.prediction_joints, predictions.joints)
    error = np.linalg.norm(
        predictions.prediction[:, order] - predictions.ground_truth, axis=-1
    ).mean(axis=1)
    ends = [split.joints.index(name) for name in ("left_shoulder", "right_hip")]
    torso = np.linalg.norm(
        predictions.ground_truth[:, ends[0]] - predictions.ground_truth[:, ends[1]], axis=-1
    )
    chosen = {
        "test_people": np.random.default_rng(SEED).permutation(len(error)),
        "worst_people": np.argsort(-error / torso),
    }
    image_of = import_optional("PIL.Image", extra="predict")
    for name, count in IMAGES.items():
        tiles = [_tile(network, split, found, int(i)) for i in chosen[name][:count]]
        rows = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, count, COLUMNS)]
        image_of.fromarray(np.concatenate(rows, 0)).save(
            FOLDER / "images" / f"{name}.webp", quality=80, method=6
        )


def _tile(
    network: Network, split: PreparedSplit, found: inference.Predictions, index: int
) -> np.ndarray:
    """One person's whole image in a square, with the predicted skeleton."""
    cv2 = import_optional("cv2", extra="predict")
    example = read_example(split, index)
    image, _ = decode(example["image"])
    crop = example_crop(example, IMAGE_RULE)
    scale = SIDE / crop.side
    size = max(round(image.shape[1] * scale), 1), max(round(image.shape[0] * scale), 1)
    tile = np.full((SIDE, SIDE, 3), 255, np.uint8)
    left, top = (SIDE - size[0]) // 2, (SIDE - size[1]) // 2
    tile[top : top + size[1], left : left + size[0]] = cv2.resize(
        image, size, interpolation=cv2.INTER_CUBIC
    )
    return draw_skeleton(
        tile,
        found.keypoints[-1, index] * scale + (left, top),
        joints=network.metadata.joints,
        limbs=network.metadata.limbs,
    )


def draw_part_maps(path: str | pathlib.Path, split: PreparedSplit) -> None:
    """Single part maps of the first test people, before and after the softmax (Fig. 5)."""
    estimator = PoseEstimator.from_checkpoint(path)
    images, captions = [], []
    for index in np.random.default_rng(SEED).permutation(len(split.source))[:MAP_ROWS]:
        example = read_example(split, int(index))
        image, _ = decode(example["image"])
        crop = example_crop(example, IMAGE_RULE)
        person = panels.predict_person(estimator, image, crop)
        images.append(crop_image(image, crop, MAP_SIDE))
        captions.append("")
        found = panels.maps_before_and_after(estimator, person, size=MAP_SIDE)
        maps = {name: (before, after) for name, before, after in found}
        for joint in SINGLE_MAPS:
            words = joint.replace("_", " ")
            images += maps[words]
            captions += [words, "after softmax"]
    sheet = tile(images, 1 + 2 * len(SINGLE_MAPS), captions)
    image_of = import_optional("PIL.Image", extra="predict")
    image_of.fromarray(sheet).save(FOLDER / "images" / "part_maps.webp", quality=80, method=6)


def draw_first_image(path: str | pathlib.Path, photo: str) -> None:
    """The README's image: a photo's skeleton and part maps."""
    estimator = PoseEstimator.from_checkpoint(path)
    box = estimator.predict(photo, max_persons=1, min_score=0.0).boxes[0]
    sheet = panels.all_part_maps(estimator, panels.predict_person(estimator, photo, box))
    image_of = import_optional("PIL.Image", extra="predict")
    image_of.fromarray(sheet).save(FOLDER / "images" / "first.webp", quality=85, method=6)


def write(page: pathlib.Path, text: str) -> None:
    """Replace the text between the page's comments ``figures`` and ``end of figures``."""
    whole = page.read_text(encoding="utf-8")
    before, rest = whole.split(BEGIN)
    after = rest.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = tools.parser("model_card", __doc__)
    parser.add_argument(
        "--data_dir",
        required=True,
        help="folder of the prepared data sets lsp/person_centric, lsp/observer_centric and "
        "mpii/crops",
    )
    parser.add_argument(
        "--no_person", type=pathlib.Path, required=True, help="folder of JPEGs without people"
    )
    parser.add_argument(
        "--checkpoint", default="", help=f"checkpoint to evaluate (default: {DEFAULT_NETWORK})"
    )
    parser.add_argument(
        "--photo", default="", help="also draw the README's image, from this photo of a person"
    )
    parser.add_argument(
        "--print",
        action="store_true",
        help="print the tables and leave the page and its images unchanged",
    )
    options = parser.parse_args(arguments)
    if options.print and options.photo:
        parser.error("--print leaves the images unchanged; leave out --photo")
    no_person = tools.jpegs(options.no_person)
    use_compilation_cache()
    path = options.checkpoint or packed.path(DEFAULT_NETWORK)
    if options.photo:
        draw_first_image(path, options.photo)
    text = figures(path, options.data_dir, no_person, draw=not options.print)
    print(text)
    if not options.print:
        write(PAGE, text)


if __name__ == "__main__":
    tools.run(main)
