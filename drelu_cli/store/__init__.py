"""The archive: models, evaluations and per-sample outcomes in one SQLite file.

`connect.open_store` opens it. Only `frames` and `exports` import pandas; beside them only
`chunks` and `outcomes` import numpy, so listing what is stored stays quick.
"""
