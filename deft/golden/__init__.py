"""Golden vectors: small numbers by which another implementation of the method can check itself against this one.

`inputs` makes up a model, a vocabulary and examples; `reference` is the method once more, naively, in numpy and
float64; `vectors` and `training` make a JSON document of both, laid out by `layout`; `check`, with `models`, compares
this package with it. The document, `vectors.json`, lies beside this file; `python -m deft.golden` writes or checks it.
docs/golden.md says how to use it.

All but `check` and `models` import numpy and nothing else of this project, so that the two ways to each number have
nothing in common.
"""
