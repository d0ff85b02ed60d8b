"""Images a second that N processes on each GPU train with ResNet-18; prints one line.

bf16, channels_last, batch 64, 128 px, synthetic images on the device: what small trials that share
a GPU can reach. Run it with and without CUDA's multi-process service:

    python benchmarks/packing.py 1
    python benchmarks/packing.py 8
    nvidia-cuda-mps-control -d; python benchmarks/packing.py 8; echo quit | nvidia-cuda-mps-control
"""

import argparse
import time
from multiprocessing import Queue
from multiprocessing.synchronize import Barrier

import torch
import torch.multiprocessing
from torch.nn import functional
from torchvision.models import resnet18

BATCH, SIZE, WARM_UP, STEPS = 64, 128, 10, 10


def train(gpu: int, seconds: float, barrier: Barrier, results: Queue) -> None:
    """One process; puts its images a second."""
    torch.cuda.set_device(gpu)
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    net = resnet18(num_classes=7).cuda().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    image_NCHW = torch.randn(BATCH, 3, SIZE, SIZE, device="cuda")
    image_NCHW = image_NCHW.to(memory_format=torch.channels_last)
    label_N = torch.randint(7, (BATCH,), device="cuda")

    def steps(number: int) -> None:
        for _ in range(number):
            with torch.autocast("cuda", torch.bfloat16):
                loss = functional.cross_entropy(net(image_NCHW), label_N)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        torch.cuda.synchronize()

    steps(WARM_UP)
    barrier.wait()
    start, number = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        steps(STEPS)
        number += STEPS * BATCH
    results.put(number / (time.monotonic() - start))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("processes", type=int, help="on each GPU")
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args()
    num_gpus = torch.cuda.device_count()
    if not num_gpus:
        raise SystemExit("no CUDA device")
    context = torch.multiprocessing.get_context("spawn")
    num = options.processes * num_gpus
    barrier, results = context.Barrier(num), context.Queue()
    processes = [
        context.Process(target=train, args=(i % num_gpus, options.seconds, barrier, results))
        for i in range(num)
    ]
    for process in processes:
        process.start()
    rates = [results.get() for _ in processes]
    for process in processes:
        process.join()
    rate = sum(rates) / num_gpus
    print(f"{options.processes} on each of {num_gpus} GPUs: {rate:.0f} images/s a GPU")


if __name__ == "__main__":
    main()
