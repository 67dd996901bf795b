"""What a job will need, before it runs: memory, time and tokens from config.json and token lengths. Torch-free.

It must not import torch or transformers, read weights, or know a database. Every number says what it is: `calculated`
from the model's shape, `counted` in a sample of the rows, `measured`, `given` by the caller, or `assumed`.
"""
