"""Transfers through pinned memory, on a simulated GPU."""

import numpy as np
import pytest
import torch
from steadyscale.core.runtime.device.accelerator import accelerator_for
from steadyscale.core.runtime.device.transfer import (
    RING_SLOTS,
    DelayedNumber,
    DownloadRing,
    Uploader,
    download,
    download_frames,
    upload_array,
    wait_for,
    with_cpu_fallback,
)

DEVICE = "simgpu"  # torch knows the name once the device is enabled


@pytest.fixture
def accelerator(gpu):
    return accelerator_for(torch.device(DEVICE))


def test_uploads_are_copies_that_do_not_wait(gpu, accelerator):
    uploader, results, before = Uploader(accelerator), [], gpu.read_counters()
    source = torch.zeros(5, 7, dtype=torch.uint8)
    planes = [source, torch.zeros(3, dtype=torch.int16)]
    for number in range(3 * RING_SLOTS):
        source.fill_(number)
        results.append(uploader.upload(planes))
    source.fill_(99)
    for number, (first, second) in enumerate(results):
        assert (first.device.type, first.dtype, second.dtype) == ("simgpu", torch.uint8, torch.int16)
        assert bool((first.cpu() == number).all())
    used = gpu.read_counters() - before
    assert used.bytes_to_device == 3 * RING_SLOTS * (35 + 6)
    assert used.pageable_bytes == 3 * RING_SLOTS * 35, "of the comparison in this test alone"


def test_uploads_in_inference_mode_are_ordinary_tensors(accelerator):
    with torch.inference_mode():
        (copy,) = Uploader(accelerator).upload([torch.ones(3)])
    assert not copy.is_inference()
    copy.add_(1)


def test_a_download_stays_until_its_buffer_is_used_again(gpu, accelerator):
    ring, before = DownloadRing(accelerator), gpu.read_counters()
    values = [torch.full((4, 3), float(number), device=DEVICE) for number in range(6)]
    first = ring.start([values[0], values[1].half()])
    started = [ring.start([value]) for value in values[2 : 1 + RING_SLOTS]]
    assert [float(tensor[0, 0]) for tensor in first.wait()] == [0.0, 1.0]
    assert first.wait()[1].dtype == torch.float16
    assert [float(d.wait()[0].mean()) for d in started] == [2.0, 3.0]
    used = gpu.read_counters() - before
    assert (used.synchronizations, used.pageable_bytes) == (0, 0)
    ring.start([values[5]])
    assert float(first.wait()[0][0, 0]) == 5.0, "documented: the buffer is used again"


def test_a_download_keeps_its_source_until_it_is_complete(gpu, accelerator):
    memory = gpu.read_memory()[0]
    pending = DownloadRing(accelerator).start([torch.ones(1000, device=DEVICE)])
    assert gpu.read_memory()[0] > memory
    pending.wait()
    assert gpu.read_memory()[0] == memory


def test_an_event_that_has_not_passed_is_waited_for(gpu, accelerator):
    class Event:
        def __init__(self, passed):
            self.passed, self.waited = passed, 0

        def query(self):
            return self.passed

        def synchronize(self):
            self.waited += 1

    for passed in (True, False):
        event = Event(passed)
        wait_for(event)
        assert event.waited == int(not passed)
    wait_for(None)


def test_delayed_numbers_and_small_arrays(gpu, accelerator):
    before = gpu.read_counters()
    number = DelayedNumber(accelerator, torch.tensor(2.5, device=DEVICE) * 2)
    assert number.read() == 5.0
    array = np.arange(6.0).reshape(2, 3)
    uploaded = upload_array(array, accelerator)
    assert uploaded.dtype == torch.float32
    assert torch.equal(download(uploaded, accelerator), torch.from_numpy(array).float())
    assert (gpu.read_counters() - before).pageable_bytes == 4, "of the tensor that this test makes"
    assert torch.equal(upload_array(array, accelerator_for(torch.device("cpu"))), torch.from_numpy(array).float())


def test_frames_come_out_in_order_one_behind(gpu):
    requested = []

    def chunks():
        for number in range(5):
            requested.append(number)
            chunk = torch.full((1, 3, 2, 2), float(number))
            yield chunk.half().to(DEVICE) if number != 3 else chunk

    received = []
    for frame in download_frames(chunks()):
        assert (frame.device.type, frame.dtype) == ("cpu", torch.float32)
        if not received:
            assert requested == [0, 1], "the next frame is launched before the first one is waited for"
        received.append(frame)
    assert [float(frame.mean()) for frame in received] == [0, 1, 2, 3, 4]


def test_frames_on_the_cpu_are_not_held_back():
    requested = []

    def chunks():
        for number in range(3):
            requested.append(number)
            yield torch.full((1, 3, 2, 2), float(number))

    stream = download_frames(chunks())
    next(stream)
    assert requested == [0]
    assert len(list(stream)) == 2


def test_a_function_runs_again_on_the_cpu_if_memory_runs_out(gpu, caplog):
    frames = torch.ones(1, 3, 4, 4, device=DEVICE).half()
    gpu.fail_allocation(0)
    result = with_cpu_fallback(lambda x: x + 1, frames)
    assert (result.device.type, result.dtype) == ("cpu", torch.float32)
    assert float(result.mean()) == 2
    assert "out on simgpu" in caplog.text
    assert gpu.cache_releases == 1
    with pytest.raises(RuntimeError, match="size"):
        with_cpu_fallback(lambda x: x + torch.ones(3, 3, 7, 9, device=DEVICE), frames)
