import pytest
import torch

from drelu_cli.core.errors import DeviceError
from drelu_cli.runtime.devices import pick_device
from drelu_cli.runtime.modes import evaluation_mode


def test_cpu_is_always_there():
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("name", ["cuda:9", "tpu", "gpu", "meta", ""])
def test_devices_that_are_not_here(name):
    with pytest.raises(DeviceError):
        pick_device(name)


def test_modes_are_put_back_module_by_module_also_on_errors():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    model.train()
    model[1].eval()
    with pytest.raises(RuntimeError, match="x"), evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError("x")
    assert [module.training for module in model.modules()] == [True, True, False]
