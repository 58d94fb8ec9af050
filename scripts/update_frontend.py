"""Pin the newest frontend of ComfyUI on the package index, for the browser tests.

python scripts/update_frontend.py     # rewrites newest_frontend.txt; then run the browser tests
"""

from __future__ import annotations

import subprocess

import assets
import script_support
import uvtool

HEADER = "# The newest frontend that the browser tests run on: python scripts/update_frontend.py\n"


def main() -> None:
    before, _ = assets.newest_frontend()
    # Of the package alone, without what it depends on.
    command = [uvtool.get_uv(), "pip", "compile", "-", "--no-deps", "--generate-hashes", "--no-annotate", "--no-header"]
    done = subprocess.run(
        command,
        input="comfyui-frontend-package\n",
        capture_output=True,
        text=True,
        env=uvtool.uv_environment(),
        check=False,
    )
    if done.returncode:
        raise script_support.SetupError(f"uv found no frontend:\n{done.stderr}")
    script_support.write_atomic(assets.NEWEST_FRONTEND_FILE, HEADER + done.stdout)
    print(f"frontend {before} -> {assets.newest_frontend()[0]}")


if __name__ == "__main__":
    script_support.run_main(main)
