"""The three evaluation protocols of the paper's tables, with the paper's column order.

``mpii-pckh`` is Table 5, ``lsp-pck`` Tables 1 and 3, ``lsp-pcp`` Tables 2 and 4; the observer- and
person-centric tables differ only in the annotation and use the same protocol.
"""

from typing import NamedTuple

from jaxpose.errors import JaxposeError
from jaxpose.evaluation.evaluation_set import EvaluationSet
from jaxpose.skeleton import LSP, MPII


def _sides(part: str) -> tuple[str, str]:
    return f"right_{part}", f"left_{part}"


class Protocol(NamedTuple):
    """An evaluation protocol: what is counted, and the columns of its table.

    Attributes:
      name: name on the command line.
      metric: name of the metric in the paper.
      parts: joints or sticks that are counted, in the order of the counts' last axis.
      joints: the joints that the parts are made of, in the data set's order.
      columns: (key, the paper's header, parts whose rates are averaged).
      total: the paper's header of the last column.
      normalizer: what a distance is divided by: ``"head_size"``, ``"torso_diagonal"``,
        ``"box_diagonal"``, ``"area"``, the names of two joints for their true distance, or
        ``"stick"`` for the length of each true stick.
      pooled: whether the last column is the percentage correct over all counted entries of the
        joints or sticks in the columns; otherwise it is the mean of their rates.
      threshold: threshold of the table.
      thresholds: all thresholds, increasing; () for a metric that averages over thresholds.
      reported: thresholds whose total is reported in addition to the table.
      has_curve: whether the area under the curve over ``thresholds`` is reported.
      extras: (key, parts whose entries are pooled), reported in addition to the table.
      unit: description of the normalizer, if the metric's name does not imply it.
      lacking: what a person without a normalizer lacks, in words, such as ``"head size"``; "" if
        every person has a normalizer.
      required_joints: joints that the truth must have.
      has_error: whether the normalized mean error (NME) is reported.
      flip_pairs: pairs of joints for which inversions are reported (``metrics.inversions``); only
        for protocols that count joints.
    """

    name: str
    metric: str
    parts: tuple[str, ...]
    joints: tuple[str, ...]
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]
    total: str
    normalizer: str | tuple[str, str]
    pooled: bool
    threshold: float
    thresholds: tuple[float, ...]
    reported: tuple[float, ...]
    has_curve: bool = False
    extras: tuple[tuple[str, tuple[str, ...]], ...] = ()
    unit: str = ""
    lacking: str = ""
    required_joints: tuple[str, ...] = ()
    has_error: bool = False
    flip_pairs: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Metric and threshold, such as ``PCKh@0.5`` or ``PCK@0.1 of the box diagonal``."""
        if not self.thresholds:
            return self.metric
        return f"{self.metric}@{self.threshold:g}" + (f" of {self.unit}" if self.unit else "")

    @property
    def averaged(self) -> tuple[str, ...]:
        """Parts included in the total: those of the columns, or all if there are no columns."""
        return tuple(part for _, _, parts in self.columns for part in parts) or self.parts

    @property
    def part_kind(self) -> str:
        """Kind of the parts: ``joint`` or ``stick``."""
        return "stick" if self.normalizer == "stick" else "joint"


TORSO_ENDS = ("left_shoulder", "right_hip")

# Each end of a stick is one joint, or the midpoint of two joints.
STICKS = {
    "right_lower_leg": (("right_ankle",), ("right_knee",)),
    "right_upper_leg": (("right_knee",), ("right_hip",)),
    "left_upper_leg": (("left_hip",), ("left_knee",)),
    "left_lower_leg": (("left_knee",), ("left_ankle",)),
    "right_forearm": (("right_wrist",), ("right_elbow",)),
    "right_upper_arm": (("right_elbow",), ("right_shoulder",)),
    "left_upper_arm": (("left_shoulder",), ("left_elbow",)),
    "left_forearm": (("left_elbow",), ("left_wrist",)),
    "head": (("neck",), ("head_top",)),
    "torso": (("right_hip", "left_hip"), ("right_shoulder", "left_shoulder")),
}

MPII_PCKH = Protocol(
    name="mpii-pckh",
    metric="PCKh",
    parts=MPII.joints,
    joints=MPII.joints,
    # The MPII toolkit's groups: hips are in, pelvis and thorax are not.
    columns=(
        ("head", "Head", ("upper_neck", "head_top")),
        ("shoulder", "Shoulder", _sides("shoulder")),
        ("elbow", "Elbow", _sides("elbow")),
        ("wrist", "Wrist", _sides("wrist")),
        ("hip", "Hip", _sides("hip")),
        ("knee", "Knee", _sides("knee")),
        ("ankle", "Ankle", _sides("ankle")),
    ),
    total="Total",
    normalizer="head_size",
    pooled=True,
    threshold=0.5,
    thresholds=tuple(step / 100 for step in range(51)),
    reported=(0.1, 0.2, 0.3, 0.4, 0.5),
    has_curve=True,
    lacking="head size",
    flip_pairs=MPII.flip_pairs,
    extras=(("upper_body", _sides("wrist") + _sides("elbow") + _sides("shoulder")),),
)

LSP_PCK = Protocol(
    name="lsp-pck",
    metric="PCK",
    parts=LSP.joints,
    joints=LSP.joints,
    columns=(
        ("head", "Head", ("neck", "head_top")),
        ("shoulder", "Sho.", _sides("shoulder")),
        ("elbow", "Elb.", _sides("elbow")),
        ("wrist", "Wri.", _sides("wrist")),
        ("hip", "Hip", _sides("hip")),
        ("knee", "Knee", _sides("knee")),
        ("ankle", "Ank.", _sides("ankle")),
    ),
    total="PCK",
    normalizer="torso_diagonal",
    pooled=True,
    threshold=0.2,
    thresholds=(0.05, 0.1, 0.15, 0.2),
    reported=(0.05, 0.1, 0.15, 0.2),
    lacking="left shoulder or right hip",
    required_joints=TORSO_ENDS,
    flip_pairs=LSP.flip_pairs,
)

LSP_PCP = Protocol(
    name="lsp-pcp",
    metric="strict PCP",
    parts=tuple(STICKS),
    joints=LSP.joints,
    columns=(
        ("torso", "Torso", ("torso",)),
        ("upper_leg", "Up. leg", _sides("upper_leg")),
        ("lower_leg", "Lo. leg", _sides("lower_leg")),
        ("upper_arm", "Up. arm", _sides("upper_arm")),
        ("forearm", "Forearm", _sides("forearm")),
        ("head", "Head", ("head",)),
    ),
    total="PCP",
    normalizer="stick",
    pooled=False,
    threshold=0.5,
    thresholds=(0.5,),
    reported=(0.5,),
    required_joints=TORSO_ENDS,
)

PROTOCOLS = {protocol.name: protocol for protocol in (MPII_PCKH, LSP_PCK, LSP_PCP)}


def named(name: str) -> Protocol:
    """Return the protocol with the given name; an unknown name raises a JaxposeError."""
    if name not in PROTOCOLS:
        raise JaxposeError(f"no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def allowed_protocols(evaluation_set: EvaluationSet) -> list[str]:
    """Return the names of the protocols that the truth supports; [] if nothing is labeled."""
    truth = evaluation_set.truth
    if not truth.labeled.any():
        return []
    joints, has_heads = set(evaluation_set.truth_joints), (truth.head_size > 0).any()
    return [
        protocol.name
        for protocol in PROTOCOLS.values()
        if joints.issuperset(protocol.required_joints)
        and (has_heads or protocol.normalizer != "head_size")
    ]
