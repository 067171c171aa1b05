"""Speed of prediction: one photo relative to the bare network, a 720p video, the first call.

    python -m benchmarks.predict latency [--checkpoint PATH]
    python -m benchmarks.predict video [--checkpoint PATH]
    python -m benchmarks.predict start [--checkpoint PATH]
    python -m benchmarks.predict onnx [--checkpoint PATH]

latency: the time of `PoseEstimator.predict` on a photo of 1280x720, with a box and without, in
milliseconds and relative to a call of the network alone, compiled with the same options. First
calls are not counted.
video: `jaxpose predict` from the shell tracks one given box through 10 seconds of 1280x720 at 25
frames per second, generated for the benchmark: frames per second of the whole command, including
compilation, and the process's memory while it runs.
start: `jaxpose predict` from the shell on one photo with a given box, twice: with an empty
compilation cache, then with that of the first call.
onnx: jaxpose and ONNX Runtime, which runs our own ONNX export, with two threads each. They first
run the network on 1, 8 and 32 crops. Then they predict a folder of photos and a video of 1280x720,
with two boxes per image; both read, decode and crop images with the same functions. Keypoints are
compared before the timing. Needs the extra `onnx`.

Without a checkpoint, video uses the network `small`, the others an untrained network of the paper's
size. The weights do not affect the time of a photo with given boxes. They affect the time without a
box and of a video, because these depend on the persons that are found.
"""

import fractions
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator

import jax
import numpy as np
from PIL import Image

import tools
from benchmarks import contest
from jaxpose import PoseEstimator, compiler_options, export, geometry
from jaxpose.checkpoints import store
from jaxpose.checkpoints.metadata import CheckpointMetadata
from jaxpose.checkpoints.packed import pack
from jaxpose.errors import JaxposeError
from jaxpose.geometry import MPII_RULE
from jaxpose.network import PoseNet, initial_variables, make_net, normalize
from jaxpose.optional import import_optional
from jaxpose.predict.images import as_image, save_image
from jaxpose.predict.video import VideoReader, VideoWriter
from jaxpose.runtime.host_memory import keep_freed_memory
from jaxpose.skeleton import MPII

UNTRAINED, IMAGE_SIZE = {"num_blocks": 8, "width": 576}, 256  # the paper's size
SECONDS, RATE, SIZE = 10, 25, (1280, 720)
CALLS = 15
BOX = [200.0, 150.0, 200.0, 500.0]
BOXES = np.array([BOX, [180.0, 100.0, 300.0, 600.0]])
IMAGES = 24  # photos of the folder, and frames of the video, that ONNX Runtime is compared on


def network(checkpoint: str | None) -> tuple[dict, CheckpointMetadata]:
    """Return variables and metadata of a checkpoint, or of an untrained network."""
    if checkpoint is not None:
        return store.load(checkpoint)[:2]
    arguments = {"num_joints": 16, "num_context_maps": 2, **UNTRAINED}
    variables = initial_variables(PoseNet(**arguments), 0)
    # Sharpen the untrained maps, so that the joints are not all in the middle of the crop.
    variables["params"][f"block{arguments['num_blocks']}_b"]["heatmaps"] *= 100.0
    metadata = CheckpointMetadata(
        network=arguments,
        joints=MPII.joints,
        trained_joints=MPII.joints,
        flip_pairs=MPII.flip_pairs,
        limbs=MPII.limbs,
        image_size=IMAGE_SIZE,
        crop=MPII_RULE,
        step=0,
    )
    return variables, metadata


def draw_image(i: int = 0) -> np.ndarray:
    """Draw soft noise with an upright figure that walks to the right; uint8 [720, 1280, 3]."""
    noise = np.random.default_rng(0).integers(90, 170, (45, 80, 3), np.uint8)
    image = np.array(Image.fromarray(noise).resize(SIZE, Image.BICUBIC))
    x = 200 + 3 * i
    image[150:230, x + 60 : x + 120] = (220, 180, 150)
    image[230:450, x + 30 : x + 150] = (200, 40, 40)
    for side in (30, 100):
        image[450:650, x + side : x + side + 40] = (40, 40, 160)
    return image


def latency(variables: dict, metadata: CheckpointMetadata) -> None:
    estimator = PoseEstimator(variables, metadata)
    net = make_net(metadata.network)
    bare = jax.jit(
        lambda v, x: net.apply(v, normalize(x), train=False)[:2],
        compiler_options=compiler_options(),
    )
    image = draw_image()
    crop = np.zeros((1, estimator.image_size, estimator.image_size, 3), np.uint8)
    calls = {
        "network alone": (bare, (jax.device_put(variables), crop), jax.block_until_ready),
        "predict, box": (estimator.predict, (image, [BOX]), lambda found: found),
        "predict, no box": (estimator.predict, (image,), lambda found: found),
    }
    times = contest.medians(calls, rounds=CALLS)
    for name, milliseconds in times.items():
        print(f"{name:16} {milliseconds:7.1f} ms  {milliseconds / times['network alone']:.2f}x")


def onnx(variables: dict, metadata: CheckpointMetadata, folder: pathlib.Path) -> None:
    onnxruntime = import_optional("onnxruntime", extra="onnx")
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = contest.threads() or 0  # 0: as many as there are cores
    session = onnxruntime.InferenceSession(
        export.to_onnx(variables, metadata), settings, providers=["CPUExecutionProvider"]
    )

    def run(crops):
        return session.run(list(export.OUTPUTS), {export.INPUT: crops})

    program = jax.jit(export.crop_program(variables, metadata), compiler_options=compiler_options())
    rng, side = np.random.default_rng(0), metadata.image_size
    print(f"{'crops':>5}  {'jaxpose ms':>10}  {'ONNX Runtime ms':>15}  {'jaxpose / ONNX':>14}")
    for count in (1, 8, 32):
        crops = rng.integers(0, 256, (count, side, side, 3), np.uint8)
        calls = {
            "jaxpose": (program, (crops,), jax.block_until_ready),
            "ONNX Runtime": (run, (crops,), lambda y: y),
        }
        contest.compare_calls("onnx", calls, tolerances=[1e-3])
        ours, theirs = contest.medians(calls).values()
        print(f"{count:>5}  {ours:>10.1f}  {theirs:>15.1f}  {ours / theirs:>14.2f}", flush=True)
    estimator = PoseEstimator(variables, metadata)
    heads = ("jaxpose images/s", "ONNX Runtime images/s", "time, jaxpose / ONNX")
    print(f"\n{'input':>6}  {'  '.join(heads)}")
    for name, read in sources(folder).items():
        ours, theirs = images_per_second(
            read,
            lambda image: estimator.predict(image, BOXES)[:2],
            lambda image: pose_by_program(run, estimator, image, BOXES),
        )
        print(f"{name:>6}  {ours:>16.1f}  {theirs:>21.1f}  {theirs / ours:>20.2f}", flush=True)


def sources(folder: pathlib.Path) -> dict[str, Callable[[], Iterator[np.ndarray]]]:
    """Write photos and a video to the folder; returns functions that iterate over their images."""
    photos = [folder / f"{i:02}.jpg" for i in range(IMAGES)]
    for i, photo in enumerate(photos):
        save_image(draw_image(i), photo)
    write_video(folder / "video.mp4", IMAGES)

    def frames():
        with VideoReader(folder / "video.mp4") as reader:
            for frame in reader.frames():
                yield frame.image

    return {"photos": lambda: map(as_image, photos), "video": frames}


def pose_by_program(
    run: Callable[[np.ndarray], Iterable[np.ndarray]],
    estimator: PoseEstimator,
    image: np.ndarray,
    boxes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute keypoints [N, J, 2] in pixels and confidence [N, J] with an exported program."""
    crops = [estimator.crop_of(box) for box in boxes]
    size = estimator.image_size
    keypoints, confidence = run(np.stack([geometry.crop_image(image, c, size) for c in crops]))
    to_image = np.stack([geometry.crop_to_image(crop) for crop in crops])
    return geometry.apply_affine(to_image, np.asarray(keypoints, np.float64)), confidence


def images_per_second(
    read: Callable[[], Iterator[np.ndarray]], *predictors: Callable[[np.ndarray], Iterable]
) -> list[float]:
    """Return the rates of predictors on a whole source; their first predictions must agree."""
    first = next(read())
    for predictor in predictors[1:]:
        contest.compare("onnx", predictor(first), predictors[0](first), tolerance=1e-3)

    def work(predictor):
        return [predictor(image) for image in read()]

    calls = {i: (work, (each,), lambda found: found) for i, each in enumerate(predictors)}
    return [1e3 * IMAGES / milliseconds for milliseconds in contest.medians(calls).values()]


def shell(folder: pathlib.Path, *arguments: str | pathlib.Path) -> subprocess.Popen:
    """Start `jaxpose predict` on a photo or video with one box, and a cache in the folder."""
    box = ",".join(map(str, BOX))
    command = [sys.executable, "-m", "jaxpose", "predict", *map(str, arguments), "--box", box]
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)


def check_ended(process: subprocess.Popen) -> None:
    """Wait for the process; raise a JaxposeError if it failed."""
    if process.wait():
        raise JaxposeError(f"jaxpose predict failed with exit status {process.returncode}")


def memory(process: subprocess.Popen) -> float:
    """Return the resident megabytes of a process."""
    pages = int(pathlib.Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def write_video(path: pathlib.Path, frames: int) -> None:
    rate = fractions.Fraction(RATE)
    with VideoWriter(path, rate=rate, time_base=1 / rate) as writer:
        for i in range(frames):
            writer.write(draw_image(i), i / rate)


def video(checkpoint: str | pathlib.Path, folder: pathlib.Path) -> None:
    source, target = folder / "in.mp4", folder / "out.mp4"
    write_video(source, SECONDS * RATE)
    start = time.perf_counter()
    options = ("--checkpoint", checkpoint, "-o", target, "--json", "--smooth", "1")
    process = shell(folder, source, *options)
    memories = []
    while process.poll() is None:
        memories.append(memory(process))
        time.sleep(0.1)
    seconds = time.perf_counter() - start
    check_ended(process)
    with VideoReader(target) as reader:
        frames = sum(1 for _ in reader.frames())
        print(f"{frames} of {SECONDS * RATE} frames at {float(reader.rate):g} frames/s")
    print(f"{frames / seconds:.1f} frames/s, {seconds:.1f} s for the whole command")
    eighths = np.array_split(memories, 8)[3:7]  # after compilation, before the process ends
    means = ", ".join(f"{part.mean():.0f}" for part in eighths)
    print(f"mean memory in the 4th, 5th, 6th and 7th eighth of the run: {means} MB")


def start(checkpoint: str | pathlib.Path, folder: pathlib.Path) -> None:
    photo = folder / "photo.png"
    Image.fromarray(draw_image()).save(photo)
    for name in ("first", "second"):
        begin = time.perf_counter()
        check_ended(shell(folder, photo, "--checkpoint", checkpoint, "-o", folder / "out"))
        print(f"{name} call from the shell: {time.perf_counter() - begin:.1f} s")


def main() -> None:
    """Run the command."""
    parser = contest.parser("predict", __doc__, with_json=False)
    parser.add_argument(
        "what",
        choices=("latency", "video", "start", "onnx"),
        help="latency: time of a call on one photo; video: frames per second and memory; start: "
        "time of the first two calls from the shell; onnx: comparison with ONNX Runtime",
    )
    parser.add_argument(
        "--checkpoint",
        help="checkpoint to measure (default: an untrained network; for video, small)",
    )
    options = parser.parse_args()
    if options.what == "onnx":
        keep_freed_memory()
        contest.use_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        if options.what == "video":
            video(options.checkpoint or "small", folder)
        elif options.what == "start":
            checkpoint = options.checkpoint or pack(*network(None), folder / "network.npz")
            start(checkpoint, folder)
        elif options.what == "onnx":
            onnx(*network(options.checkpoint), folder)
        else:
            latency(*network(options.checkpoint))


if __name__ == "__main__":
    tools.run(main)
