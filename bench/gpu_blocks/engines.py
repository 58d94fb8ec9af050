"""Benchmark engines beside plain torch.

Fused kernels, captured graphs, batches, torch.compile and ONNX Runtime.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import contextmanager

from steadyscale.core.runtime.device.captured_graph import CapturedGraph
from steadyscale.core.runtime.device.out_of_memory import is_out_of_memory
from steadyscale.core.upscaling.benchmark import speed_fields
from steadyscale.core.upscaling.model.torch_compile import compile_forward
from torch import Tensor, nn

from .networks import Variant, bind_network, make_network, photo, place_images, place_network
from .session import NotAvailable, Row, Session, first_line
from .timing import time_calls

CASES = (("compact4x", (960, 540)), ("rrdb6", (512, 512)), ("rrdb23", (512, 512)))
BATCH_CASE, BATCHES = ("compact4x", (480, 270)), (1, 2, 4, 8)
MAX_SECONDS = 1.5  # of each row


def run(session: Session) -> None:
    variant = Variant(session.modes[0])
    for network, size in CASES[: session.count(len(CASES))]:
        original = make_network(network, is_quick=session.is_quick)
        module = place_network(original, variant, session)
        images = place_images(photo(*session.size(*size)), variant, session)
        eager = bind_network(module, images, variant, session)
        expected, seconds = eager().clone(), 0.0
        engines: dict[str, Callable[[], Callable[[], Tensor]]] = {
            "eager": lambda eager=eager: eager,
            "planar": lambda args=(module, images, variant): _run_planar(session, *args),
            "fused": lambda args=(module, images, variant): _fuse(session, *args),
            "graph": lambda args=(module, images, variant): _capture(session, *args),
            "compiled": lambda args=(module, images, variant): _compile(session, *args),
            "onnx": lambda args=(original, images, variant): _start_onnx(session, *args),
        }
        for name, start in engines.items():
            row = session.measure_row(
                lambda start=start, expected=expected, eager=seconds: _time_engine(session, start, expected, eager),
                **speed_fields(network, variant.mode.value, *session.size(*size)),
                engine=name,
            )
            if name == "eager" and row is not None:
                seconds = row["ms"] / 1000
    _measure_batches(session, variant)


def _measure_batches(session: Session, variant: Variant) -> None:
    """Measure batches of small frames, and compare their results with single frames."""
    network, size = BATCH_CASE[0], session.size(*BATCH_CASE[1])
    module = place_network(make_network(network, is_quick=session.is_quick), variant, session)
    single, seconds = place_images(photo(*size), variant, session), 0.0
    for count in BATCHES:
        images = single.expand(count, -1, -1, -1).contiguous(memory_format=variant.memory_format)
        expected = bind_network(module, single, variant, session)().expand(count, -1, -1, -1)
        row = session.measure_row(
            lambda images=images, expected=expected, count=count, eager=seconds: _time_engine(
                session, lambda: bind_network(module, images, variant, session), expected, eager, images_per_call=count
            ),
            **speed_fields(network, variant.mode.value, *size),
            engine="eager" if count == 1 else f"batch of {count}",
        )
        if count == 1 and row is not None:
            seconds = row["ms"] / 1000


def summarize(rows: list[Row]) -> str:
    parts = [
        f"{row['engine']} {row['network']} {row['times_eager']:.2f}x eager"
        for row in rows
        if row.get("times_eager") is not None and row["engine"] != "eager"
    ]
    missing = sorted({row["engine"] for row in rows if row["status"] == "not available" and "engine" in row})
    return "; ".join(parts + [f"{name} not available" for name in missing])


def _time_engine(
    session: Session,
    start: Callable[[], Callable[[], Tensor]],
    expected: Tensor,
    eager_seconds: float,
    *,
    images_per_call: int = 1,
) -> Row:
    """Time an engine, and compare it with plain torch.

    expected: the result of plain torch, which takes `eager_seconds` for each image.
    """
    begin = time.perf_counter()
    with _fail_on_fallback():
        run_engine = start()
        result = run_engine().clone()
        session.accelerator.synchronize()
        start_seconds = time.perf_counter() - begin
        timing = time_calls(session, run_engine, max_seconds=MAX_SECONDS)
    return {
        "fps": images_per_call / timing.seconds,
        "times_eager": images_per_call * eager_seconds / timing.seconds if eager_seconds else None,
        "start_seconds": start_seconds,
        "worst_of_255": 255 * float((result.float() - expected.float()).abs().max()),
        "provider": getattr(run_engine, "provider", None),
        **timing.as_row(),
    }


def _compile(session: Session, module: nn.Module, images: Tensor, variant: Variant) -> Callable[[], Tensor]:
    compiled = place_network(module, variant, session)
    compile_forward(compiled)
    return bind_network(compiled, images, variant, session)


def _run_planar(session: Session, module: nn.Module, images: Tensor, variant: Variant) -> Callable[[], Tensor]:
    return bind_network(module, images.contiguous(), variant, session)


def _fuse(session: Session, module: nn.Module, images: Tensor, variant: Variant) -> Callable[[], Tensor]:
    make = getattr(module, "alternatives", None)
    alternatives = {} if make is None else make(has_triton=session.accelerator.has_triton)
    if "fused" not in alternatives:
        raise NotAvailable("there are no fused kernels for this network and device")

    def run_fused() -> Tensor:
        with variant.settings(session), session.accelerator.as_current():
            return alternatives["fused"](images)

    return run_fused


def _capture(session: Session, module: nn.Module, images: Tensor, variant: Variant) -> Callable[[], Tensor]:
    accelerator = session.accelerator
    if not accelerator.can_capture_graphs:
        raise NotAvailable(f"torch captures no graphs on {session.device.type}")
    with variant.settings(session):
        try:
            graph = CapturedGraph(accelerator, lambda image: module(image), images)
        except Exception as error:  # What a capture does not support has no error of its own.
            if is_out_of_memory(error):
                raise
            raise NotAvailable(first_line(error)) from error

    def run_graph() -> Tensor:
        with variant.settings(session):
            return graph(images)

    return run_graph


def _start_onnx(session: Session, original: nn.Module, images: Tensor, variant: Variant) -> Callable[[], Tensor]:
    from steadyscale.core.upscaling.model.onnx_engine import OnnxModule

    engine = OnnxModule(place_network(original, variant, session), original)

    class Run:
        provider = None

        def __call__(self) -> Tensor:
            with variant.settings(session):
                result = engine(images)
            self.provider = engine.engine
            if self.provider == "torch":
                raise NotAvailable("it runs in torch; see the log")
            return result

    return Run()


class _Warnings(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@contextmanager
def _fail_on_fallback():
    """Raise NotAvailable where an engine has logged that torch runs instead."""
    handler, logger = _Warnings(), logging.getLogger("steadyscale.core.upscaling")
    logger.addHandler(handler)
    try:
        yield
    except NotAvailable as error:
        raise NotAvailable("; ".join(handler.messages) or str(error)) from error
    finally:
        logger.removeHandler(handler)
    if handler.messages:
        raise NotAvailable("; ".join(handler.messages))
