"""Draw docs/network.svg, the network layer by layer: `python -m tools.network_figure`.

Kernels, channels and sizes are those of the paper's network, as `PoseNet` builds it. The drawing
has its own background, for light and for dark pages.
"""

import pathlib
from collections.abc import Sequence
from xml.sax.saxutils import escape

import tools
from jaxpose.network import PoseNet
from tools.network_shapes import shapes

NET = PoseNet()
IMAGE = (256, 256, 3)
FILE = pathlib.Path(__file__).resolve().parents[1] / "docs" / "network.svg"
WIDTH, HEIGHT = 1040, 1130
ROW = 15  # between lines of text

STYLE = """
  .ground { fill: #ffffff; }
  .panel { fill: none; stroke: #9aa4b1; stroke-dasharray: 4 4; }
  text { font: 11.5px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif;
         fill: #1c2733; text-anchor: middle; }
  .title { font-weight: 600; font-size: 14px; text-anchor: start; }
  .note { fill: #566373; font-size: 11px; }
  .left { text-anchor: start; }
  .name { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: 11px; }
  rect.box { stroke: #49566a; stroke-width: 1; }
  .conv { fill: #dbe9fb; } .separable { fill: #d9f0dc; } .pool { fill: #fbe7c8; }
  .join { fill: #ece7f6; } .read { fill: #fbdcdc; } .plain { fill: #eef1f5; }
  .line { fill: none; stroke: #49566a; stroke-width: 1.4; }
  .tip { fill: #49566a; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #12171e; } text { fill: #e6ebf1; } .note { fill: #a5b1bf; }
    .panel { stroke: #566373; } rect.box { stroke: #93a1b3; }
    .conv { fill: #1e3a5f; } .separable { fill: #1f4a2b; } .pool { fill: #57421a; }
    .join { fill: #3a3157; } .read { fill: #5a2626; } .plain { fill: #2a323d; }
    .line { stroke: #93a1b3; } .tip { fill: #93a1b3; }
  }
"""


def times(shape: Sequence[int]) -> str:
    """Return a shape in words: "3 x 3"."""
    return " x ".join(map(str, shape))


def size(path: str) -> str:
    """Return the shape that a module returns, or sows, for one image: "32 x 32 x 576"."""
    return times(shapes(NET).outputs[path])


def conv(path: str) -> str:
    """Describe kernel and channels of a (separable) convolution: "3 x 3, 32"."""
    parameters = shapes(NET).parameters
    if f"{path}/kernel" in parameters:
        *kernel, _, channels = parameters[f"{path}/kernel"]
    else:
        *kernel, _ = parameters[f"{path}/depthwise"]
        _, channels = parameters[f"{path}/pointwise"]
    return f"{times(kernel)}, {channels}"


class Drawing:
    """Shapes in the order in which they are painted."""

    def __init__(self):
        self.parts = []

    def text(self, x: float, y: float, words: str, kind: str = "") -> None:
        """Add one line of text."""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" class="{kind}">{escape(words)}</text>')

    def box(self, x: float, y: float, width: float, height: float, kind: str, *lines: str) -> None:
        """Add a box around a center; its first line is the name in the code, if there is one."""
        self.parts.append(
            f'<rect class="box {kind}" x="{x - width / 2:g}" y="{y - height / 2:g}" '
            f'width="{width:g}" height="{height:g}" rx="5"/>'
        )
        first = y + 4 - ROW * (len(lines) - 1) / 2
        for number, line in enumerate(lines):
            name = line.startswith("`")
            self.text(x, first + ROW * number, line.strip("`"), "name" if name else "")

    def arrow(self, *points: tuple[float, float]) -> None:
        """Add a line through points with a tip at its end."""
        self.line(*points)
        (x0, y0), (x, y) = points[-2:]
        length = ((x - x0) ** 2 + (y - y0) ** 2) ** 0.5
        dx, dy = (x - x0) / length * 7, (y - y0) / length * 7
        corners = [(x, y), (x - dx - dy / 2, y - dy + dx / 2), (x - dx + dy / 2, y - dy - dx / 2)]
        joined = " ".join(f"{a:.1f},{b:.1f}" for a, b in corners)
        self.parts.append(f'<polygon class="tip" points="{joined}"/>')

    def line(self, *points: tuple[float, float]) -> None:
        """Add a line through points."""
        joined = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.parts.append(f'<polyline class="line" points="{joined}"/>')

    def panel(self, x: float, y: float, width: float, height: float, title: str) -> None:
        """Add a dashed frame with a title."""
        self.parts.append(
            f'<rect class="panel" x="{x:g}" y="{y:g}" '
            f'width="{width:g}" height="{height:g}" rx="8"/>'
        )
        self.text(x + 12, y + 22, title, "title")


def draw_network(d: Drawing) -> None:
    """Draw the network from the image to the keypoints."""
    d.panel(10, 10, 1020, 240, "PoseNet: stem, K prediction blocks")
    y = 85
    d.box(70, y, 90, 44, "plain", "image", times(IMAGE))
    d.box(200, y, 90, 44, "conv", "`stem`", "Stem")
    d.arrow((115, y), (155, y))
    d.arrow((245, y), (335, y))
    d.text(290, y - 8, size("stem"), "note")
    for x, k in ((390, "1"), (775, "K")):
        d.box(x, y, 110, 44, "separable", f"`block{k}_a`", "Block-A")
        d.arrow((x + 55, y), (x + 95, y))
        d.box(x + 150, y, 110, 44, "separable", f"`block{k}_b`", "Block-B")
        d.arrow((x + 150, y + 22), (x + 150, y + 52))
        d.box(x + 150, y + 72, 130, 40, "join", "heat maps", size("block1_b"))
        d.arrow((x + 150, y + 92), (x + 150, y + 112))
        d.box(x + 150, y + 134, 176, 44, "read", "`decode_maps`", "soft-argmax, maximum; eq. 6")
    d.arrow((595, y), (640, y))
    d.text(662, y + 4, "...")
    d.arrow((684, y), (720, y))
    d.text(660, y - 28, "features + re-injected heat maps", "note")
    d.text(300, y + 128, f"{NET.num_joints} keypoints (x, y) in [0, 1]", "note")
    d.text(300, y + 143, f"{NET.num_joints} logits; every block has a loss", "note")
    d.text(735, y + 128, "the prediction:", "note")
    d.text(735, y + 143, "that of the last block", "note")


def stem(d: Drawing) -> None:
    """Draw Fig. 2."""
    d.panel(10, 265, 500, 850, "Stem (the paper's Fig. 2)")
    middle, left, right = 255, 150, 370

    def row(y, *boxes):
        for x, width, kind, name, what in boxes:
            d.box(x, y, width, 38, kind, f"`{name}`", what)

    def layer(x, width, name, after, before=""):
        return x, width, "conv", name, f"{before}{conv(f'stem/{name}')}{after}"

    d.text(middle, 310, times(IMAGE), "note")
    d.arrow((middle, 316), (middle, 330))
    row(350, layer(middle, 206, "conv1", ", stride 2; norm; ReLU"))
    d.arrow((middle, 369), (middle, 385))
    row(404, layer(middle, 206, "conv2", "; norm; ReLU"))
    d.arrow((middle, 423), (middle, 439))
    row(458, layer(middle, 206, "conv3", "; norm; ReLU"))
    d.text(430, 462, size("stem/conv3"), "note")
    d.arrow((middle, 477), (middle, 487), (left, 487), (left, 501))
    d.arrow((middle, 477), (middle, 487), (right, 487), (right, 501))
    row(
        520,
        layer(left, 206, "conv4", ", stride 2; norm; ReLU"),
        (right, 170, "pool", "max_pool", "3 x 3, stride 2"),
    )
    d.line((left, 539), (left, 551), (right, 551), (right, 539))
    d.arrow((middle, 551), (middle, 564))
    d.box(middle, 578, 190, 28, "join", f"concatenate: {size('stem/concat1')}")
    d.arrow((middle, 592), (middle, 602), (left, 602), (left, 614))
    d.arrow((middle, 592), (middle, 602), (right, 602), (right, 614))
    row(
        633,
        layer(left, 170, "short1", "; norm; ReLU"),
        layer(right, 170, "long1", "; norm; ReLU"),
    )
    d.arrow((right, 652), (right, 666))
    row(685, layer(right, 170, "long2", "; norm; ReLU"))
    d.arrow((right, 704), (right, 718))
    row(737, layer(right, 170, "long3", "; norm; ReLU"))
    d.arrow((right, 756), (right, 770))
    d.arrow((left, 652), (left, 770))
    row(
        789,
        layer(left, 170, "short2", "; norm"),
        layer(right, 170, "long4", "; norm"),
    )
    d.line((left, 808), (left, 820), (right, 820), (right, 808))
    d.arrow((middle, 820), (middle, 833))
    d.box(middle, 847, 190, 28, "join", f"concatenate: {size('stem/concat2')}")
    d.arrow((middle, 861), (middle, 871), (left, 871), (left, 883))
    d.arrow((middle, 861), (middle, 871), (right, 871), (right, 883))
    row(
        902,
        layer(left, 206, "conv5", ", stride 2; norm", before="ReLU; "),
        (right, 170, "pool", "max_pool", "2 x 2, stride 2"),
    )
    d.line((left, 921), (left, 933), (right, 933), (right, 921))
    d.arrow((middle, 933), (middle, 946))
    d.box(middle, 960, 190, 28, "join", f"concatenate: {size('stem/concat3')}")
    d.arrow((middle, 974), (middle, 990))
    what = f"residual separable, {conv('stem/residual/main')}"
    row(1010, (middle, 250, "separable", "residual", what))
    d.arrow((middle, 1029), (middle, 1045))
    d.text(middle, 1060, size("stem"), "note")
    d.text(30, 1085, "norm: batch norm with a shift, without a scale.", "note left")
    d.text(
        30,
        1101,
        "Padding: SAME in TensorFlow; if uneven, the extra row is at the end.",
        "note left",
    )


def block_a(d: Drawing) -> None:
    """Draw Fig. 3."""
    d.panel(
        525,
        265,
        505,
        480,
        f"Block-A (Fig. 3), all separable convolutions {times([NET.kernel_size] * 2)}",
    )
    x1, x2, x3 = 605, 775, 945
    for x, name in ((x1, "level1"), (x2, "level2_1"), (x3, "level3_1")):
        d.text(x, 312, size(f"block1_a/{name}"), "note")

    def residual(x, y, name, width=130):
        channels = conv(f"block1_a/{name}/main").rpartition(" ")[2]
        d.box(x, y, width, 38, "separable", f"`{name}`", f"residual, {channels}")

    d.text(x1, 334, "x")
    d.arrow((x1, 340), (x1, 471))
    residual(x1, 490, "level1")
    d.arrow((x1, 346), (x2, 346), (x2, 354))
    d.box(x2, 368, 130, 28, "pool", "max pool 2 x 2")
    d.arrow((x2, 382), (x2, 393))
    what = f"ReLU; {conv('block1_a/reduce')}; norm"
    d.box(x2, 412, 152, 38, "conv", "`reduce`", what)
    d.arrow((x2, 431), (x2, 442))
    residual(x2, 461, "level2_1")
    d.arrow((x2, 480), (x2, 508))
    residual(x2, 527, "level2_2")
    d.arrow((x2, 492), (x3, 492), (x3, 500))
    d.box(x3, 514, 130, 28, "pool", "max pool 2 x 2")
    for number, y in ((1, 561), (2, 613), (3, 665)):
        d.arrow((x3, y - 33), (x3, y - 19))
        residual(x3, y, f"level3_{number}")
    d.arrow((x3, 684), (x3, 700), (x2 + 40, 700), (x2 + 40, 621), (x2 + 12, 621))
    d.text(880, 716, "up-sampled x 2", "note")
    d.arrow((x2, 546), (x2, 608))
    d.text(x2, 625, "+")
    d.parts.append(f'<circle class="line" cx="{x2}" cy="621" r="11"/>')
    d.line((x2 - 11, 621), (x2 - 55, 621))
    d.arrow((x2 - 55, 621), (x2 - 55, 645))
    residual(x2 - 55, 664, "level2_3", width=120)
    d.arrow((x1, 509), (x1, 700))
    d.parts.append(f'<circle class="line" cx="{x1}" cy="712" r="11"/>')
    d.text(x1, 716, "+")
    d.arrow((x2 - 55, 683), (x2 - 55, 712), (x1 + 12, 712))
    d.text(668, 730, "up-sampled x 2", "note")
    d.text(552, 716, "A")
    d.arrow((x1 - 11, 712), (562, 712))


def block_b(d: Drawing) -> None:
    """Draw Fig. 4 and a residual separable convolution."""
    d.panel(525, 760, 505, 205, "Block-B and re-injection (Fig. 4)")
    y = 868
    _, num_maps = shapes(NET).parameters["block1_b/heatmaps"]
    d.text(548, y + 4, "A")
    d.arrow((558, y), (578, y))
    d.box(
        636, y, 116, 54, "separable", "`separable`", f"ReLU; {conv('block1_b/separable')};", "norm"
    )
    d.arrow((694, y), (728, y))
    d.text(703, y + 15, "S")
    d.box(780, y, 104, 54, "conv", "`heatmaps`", f"ReLU; 1 x 1, {num_maps};", "no norm")
    d.arrow((832, y), (862, y))
    d.text(838, y + 15, "H")
    d.box(918, y, 112, 54, "conv", "`reinject`", f"ReLU; {conv('block1_b/reinject')};", "norm")
    d.arrow((846, y), (846, y + 46))
    d.text(846, y + 60, "decoded", "note")
    d.arrow((974, y), (990, y), (990, y - 48), (971, y - 48))
    d.parts.append(f'<circle class="line" cx="959" cy="{y - 48}" r="11"/>')
    d.text(959, y - 44, "+")
    d.text(982, y + 15, "R")
    d.arrow((566, y), (566, y - 48), (947, y - 48))
    d.line((711, y), (711, y - 48))
    d.arrow((959, y - 59), (959, y - 74), (1015, y - 74))
    d.text(875, y - 70, "next block's x = A + S + R", "note")
    what = f"{NET.num_joints} part maps, then {NET.num_context_maps} context maps per joint"
    d.text(545, y + 66, f"{num_maps} = {what}.", "note left")
    d.text(545, y + 83, "The last block has no re-injection.", "note left")

    d.panel(525, 980, 505, 135, "Residual separable convolution")
    y = 1050
    d.text(548, y + 4, "x")
    d.arrow((558, y), (596, y))
    d.box(705, y, 218, 40, "separable", "`main`", "ReLU; k x k depthwise; 1 x 1; norm")
    d.arrow((814, y), (950, y))
    d.parts.append(f'<circle class="line" cx="962" cy="{y}" r="11"/>')
    d.text(962, y + 4, "+")
    d.arrow((973, y), (1010, y))
    d.arrow((572, y), (572, y + 40), (962, y + 40), (962, y + 12))
    d.text(740, y + 55, "x itself, or shortcut (ReLU; 1 x 1; norm) where channels differ", "note")


def svg() -> str:
    """Return the drawing as SVG."""
    d = Drawing()
    for part in (draw_network, stem, block_a, block_b):
        part(d)
    body = "\n".join(d.parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" role="img" aria-label="The network, layer by layer">\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="10"/>\n{body}\n</svg>\n'
    )


def main(arguments: list[str] | None = None) -> None:
    """Write the drawing."""
    tools.parser("network_figure", __doc__).parse_args(arguments)
    FILE.write_text(svg(), encoding="utf-8")
    print(f"wrote {FILE.name}")


if __name__ == "__main__":
    main()
