"""What the comparison scripts share of their options."""

import argparse
import os

# dtypes of this library: what the commands of `moa` are asked for.
DTYPES = {
    "bf16": ["--dtype", "bf16"],
    "f16": ["--dtype", "f16"],
    "tf32": ["--dtype", "f32", "--precision", "tf32"],
    "f32": ["--dtype", "f32"],
}


def listed(known):
    """Of an option that takes names with commas between them."""
    def parse(value):
        names = [name for name in value.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown) or 'nothing'}; known: {', '.join(known)}")
        return names
    return parse


def tool(parser):
    """The program `moa`, from the environment."""
    path = os.environ.get("MOA_TOOL", "")
    if not os.access(path, os.X_OK):
        parser.error(f"MOA_TOOL is {path!r}, must name the program moa (./dev compare sets it)")
    return path
