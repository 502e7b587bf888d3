import numpy as np
import torch

from diapir.train.peak_memory import peak_memory_mb

MB = 300


def test_the_peak_holds_what_was_held_and_let_go() -> None:
    before = peak_memory_mb(torch.device("cpu"))
    held = np.ones(int(MB * 1e6), np.uint8)
    during = peak_memory_mb(torch.device("cpu"))
    del held
    assert during >= MB
    assert peak_memory_mb(torch.device("cpu")) >= during >= before
