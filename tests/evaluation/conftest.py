"""Two cores for torch, whatever the machine has set."""

import pytest
import torch

from drelu_cli.runtime.companion import dismiss


@pytest.fixture
def two_cores():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
    dismiss()
