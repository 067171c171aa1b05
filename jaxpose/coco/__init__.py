"""Read and write COCO's JSON, and match its file names to files; needs only NumPy."""

from jaxpose.coco.entries import Annotation as Annotation
from jaxpose.coco.entries import Category as Category
from jaxpose.coco.entries import CocoFile as CocoFile
from jaxpose.coco.entries import Dropped as Dropped
from jaxpose.coco.entries import Image as Image
from jaxpose.coco.entries import describe as describe
from jaxpose.coco.entries import id_key as id_key
from jaxpose.coco.names import Match as Match
from jaxpose.coco.names import NameIndex as NameIndex
from jaxpose.coco.names import find_files as find_files
from jaxpose.coco.reader import HALF_PIXEL as HALF_PIXEL
from jaxpose.coco.reader import KEYPOINT_BOX as KEYPOINT_BOX
from jaxpose.coco.reader import decode_json as decode_json
from jaxpose.coco.reader import is_coco as is_coco
from jaxpose.coco.reader import parse_coco as parse_coco
from jaxpose.coco.reader import read_coco as read_coco
from jaxpose.coco.reader import read_text as read_text
from jaxpose.coco.selection import Selection as Selection
from jaxpose.coco.selection import select as select
from jaxpose.coco.writer import CocoWriter as CocoWriter
from jaxpose.coco.writer import ResultWriter as ResultWriter
from jaxpose.coco.writer import WrittenImage as WrittenImage
from jaxpose.coco.writer import result_entry as result_entry
from jaxpose.coco.writer import results_of as results_of
