"""Jobs for the tests of executors; they run in other processes."""

import os
import signal
import time
from pathlib import Path

from drelu_cli.core.errors import BadValue
from drelu_cli.runtime.channel import tell


def double(config):
    tell("epoch", {"done": config["x"]})
    return {"x": 2 * config["x"], "pair": (1, 2), "path": Path("a")}


def raises(config):
    raise ValueError("always")


def refuses(config):
    raise BadValue("a wrong value")


def dies(config):
    os.kill(os.getpid(), signal.SIGKILL)


def dies_once(config):
    if not Path(config["mark"]).exists():
        Path(config["mark"]).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


def waits(config):
    Path(config["mark"]).touch()
    tell("epoch", {"pid": os.getpid()})
    while not Path(config["go"]).exists():
        time.sleep(0.01)
    return "waited"


def adds_a_file(config):
    """Reads a file of the data, writes into its folder; says where both were."""
    folder, data = Path(config["store"]), Path(config["data_dir"])
    (folder / "made.txt").write_text((data / "part" / "words.txt").read_text())
    (folder / ".lock").touch()
    if config.get("fails"):
        raise BadValue("half-way")
    return {"store": str(folder), "data_dir": str(data), "seeded": (folder / "seed").read_text()}
