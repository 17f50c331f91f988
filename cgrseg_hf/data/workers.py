# Copyright 2026 The cgrseg_hf authors. Licensed under the Apache License, Version 2.0.
"""Processes that read images ahead."""

import signal

import torch


def prepare_worker(worker_id: int) -> None:
    """
    Make a `DataLoader`'s worker leave signals to the main process, and use one thread.

    Schedulers and terminals signal all processes at once. The main one answers, and needs its workers until it has;
    they end with it.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
