"""Keeps workflows/ and subgraphs/ true to the nodes, on a real ComfyUI that it starts.

    python scripts/templates.py                     # stores new inputs' defaults, and writes workflows/api/
    python scripts/templates.py --picture restore   # also runs that template on the sample clip, for its thumbnail

A template is drawn in the browser and saved as workflows/NAME.json; the rest is made here.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import assets
import av
import base_directory
import demo
import script_support
import workflow_graph
from bootstrap import DEFAULT_NETWORK, PYTHON
from comfyhost import Host
from PIL import Image, ImageDraw, ImageFont, ImageOps

WORKFLOWS_FOLDER = script_support.REPO_ROOT / "workflows"
SUBGRAPHS_FOLDER = script_support.REPO_ROOT / "subgraphs"
CLIP_NAME = "bikes.mp4"  # the name that templates ask for; the picture is of the hand-held sample clip under that name
THUMBNAIL_SIZE = 600, 400  # of a thumbnail
FRAME_POSITION = 0.6  # of the clip, which frame is shown
UNAVAILABLE_LOADERS = ("CheckpointLoaderSimple",)  # what no test machine has a file for

COMPARE_NODE, TRAIN_NODE = "SteadyScale_CompareModels", "SteadyScale_TrainESRGAN"  # nodes whose own picture says more
GAP = 6  # pixels between the four parts of a contest's


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--picture", action="append", default=[], metavar="NAME", help="make its thumbnail")
    names = options.parse_args().picture
    base = base_directory.create_base_directory(
        script_support.DEMO_FOLDER / "templates", [assets.get_weights(DEFAULT_NETWORK, PYTHON)]
    )
    script_support.replace_symlink(base / "input" / CLIP_NAME, demo.get_shaken_clip())
    with Host(assets.get_comfyui(), base, flags=base_directory.HOST_FLAGS) as host:
        definitions = host.get("/object_info")
        for path in sorted([*WORKFLOWS_FOLDER.glob("*.json"), *SUBGRAPHS_FOLDER.glob("*.json")]):
            update_workflow(path, definitions)
        for name in names:
            with script_support.report_step(f"Thumbnail of {name}"):
                make_thumbnail(host, name).save(WORKFLOWS_FOLDER / f"{name}.jpg", quality=82, optimize=True)


def update_workflow(path: Path, definitions: dict[str, Any]) -> None:
    """Brings a canvas up to the nodes as they are, and for a template writes the API file. Says what it changed."""
    graph = json.loads(path.read_text(encoding="utf-8"))
    present = workflow_graph.add_missing_defaults(graph, definitions)
    if present != graph:
        script_support.write_atomic(path, json.dumps(present, indent=2) + "\n")
        print(f"  {path.relative_to(script_support.REPO_ROOT)}: has the new inputs")
    if path.parent != WORKFLOWS_FOLDER:
        return
    target = WORKFLOWS_FOLDER / "api" / path.name
    prompt = workflow_graph.to_prompt(present, definitions)
    for node in prompt.values():
        node["_meta"] = {"title": definitions[node["class_type"]]["display_name"]}
    if not target.exists() or json.loads(target.read_text(encoding="utf-8")) != prompt:
        script_support.write_atomic(target, json.dumps(prompt, indent=2) + "\n")
        print(f"  {target.relative_to(script_support.REPO_ROOT)}: written")


def make_thumbnail(host: Host, name: str) -> Image.Image:
    """The clip before and after, side by side.

    Where a checkpoint is needed, what comes before it is shown. A node that trains or compares models has a picture of
    its own.
    """
    prompt = json.loads((WORKFLOWS_FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    source = read_frame(host.base / "input" / CLIP_NAME)
    if any(node["class_type"] in UNAVAILABLE_LOADERS for node in prompt.values()):
        return draw_halves(source, draw_fill_mask(host, prompt), ("shaky", "steady, and what to paint"))
    run = host.run(prompt, timeout=3600).raise_for_status()
    for i, node in prompt.items():
        if node["class_type"] in (COMPARE_NODE, TRAIN_NODE):
            shown = Image.open(io.BytesIO(host.view(run.outputs[i]["images"][0]))).convert("RGB")
            return (
                draw_quarters(shown)
                if node["class_type"] == COMPARE_NODE
                else ImageOps.pad(shown, THUMBNAIL_SIZE, color="white")
            )
    saved = next(item for made in run.outputs.values() for item in made.get("images", []) if item["type"] == "output")
    return draw_halves(
        source, read_frame(host.base / "output" / saved["subfolder"] / saved["filename"]), ("before", "after")
    )


def draw_fill_mask(host: Host, prompt: workflow_graph.Prompt) -> Image.Image:
    """A steady frame with the part that its border made up in a colour."""
    cut = workflow_graph.remove_dependents(prompt, UNAVAILABLE_LOADERS)
    warp = next(i for i, node in cut.items() if node["class_type"] == "SteadyScale_WarpFrames")
    cut["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": [warp, 1]}}
    for i, node in (("frames", warp), ("masks", "mask")):
        cut[i] = {"class_type": "PreviewImage", "inputs": {"images": [node, 0]}}
    run = host.run(cut, timeout=3600).raise_for_status()
    shown = []
    for i in ("frames", "masks"):
        items = run.outputs[i]["images"]
        shown.append(Image.open(io.BytesIO(host.view(items[int(len(items) * FRAME_POSITION)]))))
    steady, mask = shown[0].convert("RGB"), shown[1].convert("L")
    return Image.composite(Image.new("RGB", steady.size, "#e0529c"), steady, mask.point(lambda v: v * 3 // 4))


def read_frame(path: Path) -> Image.Image:
    with av.open(str(path)) as container:
        frames = [made.to_image() for made in container.decode(video=0)]
    return frames[int(len(frames) * FRAME_POSITION)]


def draw_halves(before: Image.Image, after: Image.Image, labels: tuple[str, str]) -> Image.Image:
    """The left half of a thumbnail from one picture, the right half from the other; both keep their shape."""
    sheet, font = Image.new("RGB", THUMBNAIL_SIZE, "#16171d"), ImageFont.load_default(18)
    draw = ImageDraw.Draw(sheet)
    width, height = THUMBNAIL_SIZE[0] // 2 - 1, THUMBNAIL_SIZE[1]
    for left, picture, text in ((0, before, labels[0]), (THUMBNAIL_SIZE[0] // 2 + 1, after, labels[1])):
        factor = max(width / picture.width, height / picture.height)
        big = picture.resize((round(picture.width * factor), round(picture.height * factor)), Image.Resampling.BICUBIC)
        x, y = (big.width - width) // 2, (big.height - height) // 2
        sheet.paste(big.crop((x, y, x + width, y + height)), (left, 0))
        box = draw.textbbox((left + 14, height - 36), text, font=font)
        draw.rounded_rectangle((box[0] - 8, box[1] - 6, box[2] + 8, box[3] + 6), 6, fill="#16171d")
        draw.text((left + 14, height - 36), text, font=font, fill="#ffffff")
    return sheet


def draw_quarters(row: Image.Image) -> Image.Image:
    """A thumbnail of a picture that is four parts in a row with narrow gaps: the upper part of each, in two rows."""
    sheet, width, height = (
        Image.new("RGB", THUMBNAIL_SIZE, "#16171d"),
        THUMBNAIL_SIZE[0] // 2 - 1,
        THUMBNAIL_SIZE[1] // 2 - 1,
    )
    side = (row.width - 3 * GAP) // 4
    for n in range(4):
        part = row.crop((n * (side + GAP), 0, n * (side + GAP) + side, min(row.height, side * height // width)))
        at = (n % 2 * (width + 2), n // 2 * (height + 2))
        sheet.paste(part.resize((width, height), Image.Resampling.LANCZOS), at)
    return sheet


if __name__ == "__main__":
    script_support.run_main(main)
