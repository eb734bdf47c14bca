"""A job that waits for a file."""

import time
from pathlib import Path


def waits(config):
    while not Path(config["go"]).exists():
        time.sleep(0.01)
    time.sleep(2)  # long enough for a raylet that was killed to be gone
    return "waited"
