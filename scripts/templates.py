"""Update workflows/ and subgraphs/ from the nodes' schemas of a running ComfyUI.

    python scripts/templates.py                       # store new inputs' defaults, and write workflows/api/
    python scripts/templates.py --thumbnail restore   # also run that template on the sample clip, for its thumbnail

A template is drawn in the browser and saved as workflows/NAME.json; this script writes the rest.
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
import contact_sheet
import demo
import script_support
import workflow_graph
from bootstrap import DEFAULT_NETWORK, PYTHON
from comfyhost import Host
from PIL import Image, ImageDraw, ImageFont, ImageOps

WORKFLOWS_FOLDER = script_support.REPO_ROOT / "workflows"
SUBGRAPHS_FOLDER = script_support.REPO_ROOT / "subgraphs"
CLIP_NAME = "bikes.mp4"  # of the clip that the templates load; thumbnails are of the hand-held sample clip
THUMBNAIL_SIZE = 600, 400
FRAME_POSITION = 0.6  # of the displayed frame, as a share of the clip
UNAVAILABLE_LOADERS = ("CheckpointLoaderSimple",)  # nodes for which no test machine has a file

COMPARE_NODE, TRAIN_NODE = "SteadyScale_CompareModels", "SteadyScale_TrainESRGAN"  # their output is the thumbnail
GAP = 6  # pixels between the four parts of the output of COMPARE_NODE


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--thumbnail", action="append", default=[], metavar="NAME", help="render its thumbnail")
    names = options.parse_args().thumbnail
    base = base_directory.create_base_directory(
        script_support.DEMO_FOLDER / "templates", [assets.get_weights(DEFAULT_NETWORK, PYTHON)]
    )
    script_support.link_or_copy(demo.get_shaken_clip(), base / "input" / CLIP_NAME)
    with Host(assets.get_comfyui(), base, flags=base_directory.HOST_FLAGS) as host:
        definitions = host.get("/object_info")
        for path in sorted([*WORKFLOWS_FOLDER.glob("*.json"), *SUBGRAPHS_FOLDER.glob("*.json")]):
            update_workflow(path, definitions)
        for name in names:
            with script_support.report_step(f"Thumbnail of {name}"):
                make_thumbnail(host, name).save(WORKFLOWS_FOLDER / f"{name}.jpg", quality=82, optimize=True)


def update_workflow(path: Path, definitions: dict[str, Any]) -> None:
    """Add new inputs to a canvas; write the API file of a template."""
    graph = json.loads(path.read_text(encoding="utf-8"))
    updated = workflow_graph.add_missing_defaults(graph, definitions)
    if updated != graph:
        script_support.write_atomic(path, json.dumps(updated, indent=2) + "\n")
        print(f"  {path.relative_to(script_support.REPO_ROOT)}: added the new inputs")
    if path.parent != WORKFLOWS_FOLDER:
        return
    target = WORKFLOWS_FOLDER / "api" / path.name
    prompt = workflow_graph.to_prompt(updated, definitions)
    for node in prompt.values():
        node["_meta"] = {"title": definitions[node["class_type"]]["display_name"]}
    if not target.exists() or json.loads(target.read_text(encoding="utf-8")) != prompt:
        script_support.write_atomic(target, json.dumps(prompt, indent=2) + "\n")
        print(f"  {target.relative_to(script_support.REPO_ROOT)}: written")


def make_thumbnail(host: Host, name: str) -> Image.Image:
    """The clip before and after, or the output of a training or comparing node.

    A graph that needs a checkpoint runs up to that node.
    """
    prompt = json.loads((WORKFLOWS_FOLDER / "api" / f"{name}.json").read_text(encoding="utf-8"))
    source = host.base / "input" / CLIP_NAME
    if any(node["class_type"] in UNAVAILABLE_LOADERS for node in prompt.values()):
        return draw_halves(read_frame(source), draw_fill_mask(host, prompt), ("shaky", "steady, and what to paint"))
    run = host.run(prompt, timeout=3600).raise_for_status()
    for i, node in prompt.items():
        if node["class_type"] in (COMPARE_NODE, TRAIN_NODE):
            image = Image.open(io.BytesIO(host.view(run.outputs[i]["images"][0]))).convert("RGB")
            if node["class_type"] == COMPARE_NODE:
                return draw_quarters(image)
            return ImageOps.pad(image, THUMBNAIL_SIZE, color="white")
    items = (item for output in run.outputs.values() for item in output.get("images", []))
    saved = next(item for item in items if item["type"] == "output")
    return draw_before_after(source, host.base / "output" / saved["subfolder"] / saved["filename"])


def draw_before_after(source: Path, result: Path) -> Image.Image:
    """A thumbnail of one frame, or, at equal sizes, the mean of half a second.

    At equal sizes the result is meant to be steadier, which one frame does not show.
    """
    before, after = read_frame(source), read_frame(result)
    if before.size != after.size:
        return draw_halves(before, after, ("before", "after"))
    means = contact_sheet.mean_frame(source), contact_sheet.mean_frame(result)
    return draw_halves(*means, ("before: mean of 0.5 s", "after"))


def draw_fill_mask(host: Host, prompt: workflow_graph.Prompt) -> Image.Image:
    """A stabilized frame with its filled pixels tinted."""
    cut = workflow_graph.remove_dependents(prompt, UNAVAILABLE_LOADERS)
    warp = next(i for i, node in cut.items() if node["class_type"] == "SteadyScale_WarpFrames")
    cut["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": [warp, 1]}}
    for i, node in (("frames", warp), ("masks", "mask")):
        cut[i] = {"class_type": "PreviewImage", "inputs": {"images": [node, 0]}}
    run = host.run(cut, timeout=3600).raise_for_status()
    images = []
    for i in ("frames", "masks"):
        items = run.outputs[i]["images"]
        images.append(Image.open(io.BytesIO(host.view(items[int(len(items) * FRAME_POSITION)]))))
    steady, mask = images[0].convert("RGB"), images[1].convert("L")
    return Image.composite(Image.new("RGB", steady.size, "#e0529c"), steady, mask.point(lambda v: v * 3 // 4))


def read_frame(path: Path) -> Image.Image:
    with av.open(str(path)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    return frames[int(len(frames) * FRAME_POSITION)]


def draw_halves(before: Image.Image, after: Image.Image, labels: tuple[str, str]) -> Image.Image:
    """A thumbnail of two halves, each cropped from one image without distortion."""
    sheet, font = Image.new("RGB", THUMBNAIL_SIZE, "#16171d"), ImageFont.load_default(18)
    draw = ImageDraw.Draw(sheet)
    width, height = THUMBNAIL_SIZE[0] // 2 - 1, THUMBNAIL_SIZE[1]
    for left, image, text in ((0, before, labels[0]), (THUMBNAIL_SIZE[0] // 2 + 1, after, labels[1])):
        factor = max(width / image.width, height / image.height)
        big = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)
        x, y = (big.width - width) // 2, (big.height - height) // 2
        sheet.paste(big.crop((x, y, x + width, y + height)), (left, 0))
        box = draw.textbbox((left + 14, height - 36), text, font=font)
        draw.rounded_rectangle((box[0] - 8, box[1] - 6, box[2] + 8, box[3] + 6), 6, fill="#16171d")
        draw.text((left + 14, height - 36), text, font=font, fill="#ffffff")
    return sheet


def draw_quarters(row: Image.Image) -> Image.Image:
    """Rearrange an image of four parts in a row, with GAP between, into two rows."""
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
