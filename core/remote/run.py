"""Run a workflow on a server: upload inputs, run, download results."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .client import MAX_DOWNLOAD_BYTES, ComfyClient, ProgressCallback, connect, with_timeout
from .messages import strip_control_chars
from .workflow import (
    Prompt,
    RunError,
    Setting,
    apply_settings,
    find_local_files,
    json_list,
    json_object,
    parse_setting,
)

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class RunResult:
    """The result of a run.

    files: (id of the node, path) of each downloaded file. texts: texts of nodes by their id. uploaded: "node.input" ->
    the file's name on the server. skipped_previews: how many images of preview nodes were not downloaded.
    """

    run_id: str
    files: tuple[tuple[str, Path], ...]
    texts: dict[str, list[str]]
    uploaded: dict[str, str]
    skipped_previews: int


def run_workflow(
    prompt: Prompt,
    url: str,
    *,
    settings: Sequence[str] = (),
    folder: str | Path = ".",
    previews: bool = False,
    timeout: float = DEFAULT_TIMEOUT_SECONDS,
    max_download_bytes: int = MAX_DOWNLOAD_BYTES,
    on_progress: ProgressCallback = lambda label, done, total: None,
) -> RunResult:
    """Run a graph in API format on a server, and download what its nodes save.

    settings: `NODE.INPUT=VALUE` each; a value that is a local file is uploaded first, where the input is an upload.
    folder: where results are written. previews: download the images of preview nodes, too. timeout: seconds for
    everything, after which the run is stopped. max_download_bytes: of one result.
    Raises RunError; whatever ends this early, KeyboardInterrupt included, stops the run on the server.
    """
    chosen = [parse_setting(prompt, text) for text in settings]
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{target} cannot be written to: {error.strerror or error}") from error

    async def run_with_timeout() -> RunResult:
        try:
            return await with_timeout(
                timeout, _run(prompt, url, chosen, target, previews, max_download_bytes, on_progress)
            )
        except asyncio.TimeoutError as error:
            raise RunError(f"the run was not over after {timeout:g} s; --timeout allows more") from error

    return asyncio.run(run_with_timeout())


async def _run(
    prompt: Prompt,
    url: str,
    settings: list[Setting],
    folder: Path,
    previews: bool,
    max_download_bytes: int,
    on_progress: ProgressCallback,
) -> RunResult:
    """Upload files, run the graph, download files."""
    async with connect(url) as server:
        classes = sorted({entry["class_type"] for entry in prompt.values()})
        definitions = {name: await server.get_node_definition(name) for name in classes}
        graph = apply_settings(prompt, settings, definitions)
        uploaded: dict[str, str] = {}
        for node, name, path in list(find_local_files(graph, settings, definitions)):
            on_progress(f"uploading {path.name}", 0, None)
            graph[node]["inputs"][name] = uploaded[f"{node}.{name}"] = await server.upload(path)
        run_id, outputs = await _run_and_wait(server, graph, on_progress)
        items = _output_files(outputs)
        wanted = [(node, item) for node, item in items if previews or item["type"] == "output"]
        files: list[tuple[str, Path]] = []
        for index, (node, item) in enumerate(wanted):
            on_progress("downloading", index, len(wanted))
            path = unused_path(folder, str(item["filename"]))
            await server.download(item, path, max_download_bytes)
            files.append((node, path))
        return RunResult(run_id, tuple(files), _output_texts(outputs), uploaded, len(items) - len(wanted))


async def _run_and_wait(
    server: ComfyClient, graph: Prompt, on_progress: ProgressCallback
) -> tuple[str, dict[str, Any]]:
    """Queue a graph and wait for it; an interrupted wait stops the run."""
    run_id = str(uuid.uuid4())
    try:
        run_id = await server.queue_prompt(graph, run_id)
        return run_id, await server.wait_for_outputs(run_id, graph, on_progress)
    except (asyncio.CancelledError, KeyboardInterrupt):
        try:
            await with_timeout(15, server.cancel_run(run_id))
            log.warning("the run %s was stopped on the server", run_id)
        except (RunError, asyncio.TimeoutError):
            log.error("the run %s could not be stopped on the server, and may continue there", run_id)
        raise


def _output_files(outputs: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(node id, filename + subfolder + type) of each file in a run's outputs.

    Nodes have different names for their lists.
    """
    return [
        (node, item)
        for node, output in outputs.items()
        for value in output.values()
        for item in map(json_object, json_list(value))
        if item.get("filename") and item.get("type") in ("output", "temp")
    ]


def _output_texts(outputs: dict[str, Any]) -> dict[str, list[str]]:
    texts = {node: json_list(output.get("text")) for node, output in outputs.items()}
    return {
        node: [strip_control_chars(line) for line in text if isinstance(line, str)]
        for node, text in texts.items()
        if text
    }


_RESERVED_NAMES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def unused_path(folder: Path, name: str) -> Path:
    """A safe path for a file that a server calls `name`.

    It is in the folder itself, not hidden, and does not exist yet.
    """
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    safe = "".join("_" if c in '<>:"|?*' or not c.isprintable() else c for c in last).strip(". ") or "result"
    stem, suffix = Path(safe).stem[:100], Path(safe).suffix[:20]
    if stem.lower() in _RESERVED_NAMES:
        stem = f"_{stem}"  # Windows takes these for devices
    path, count = folder / f"{stem}{suffix}", 1
    while path.exists() or path.is_symlink():
        count += 1
        path = folder / f"{stem} ({count}){suffix}"
    return path
