"""`python -m examples.five_joints --data_dir DIR`: draw and prepare the data set."""

import argparse
import os

from examples.five_joints.five_joints_dataset_builder import Builder


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m examples.five_joints")
    parser.add_argument(
        "--data_dir",
        "--data-dir",
        required=True,
        type=os.path.expanduser,
        help="folder of prepared data sets",
    )
    builder = Builder(data_dir=parser.parse_args().data_dir)
    builder.download_and_prepare(file_format="array_record")
    print(f"{builder.info.full_name} is prepared in {builder.data_dir}")


if __name__ == "__main__":
    main()
