"""`python -m bench [NAME ...]`: run the measurements named, or all; each writes bench/results/NAME.json."""

import importlib
import sys

BENCHES = ["scoring"]

for name in sys.argv[1:] or BENCHES:
    importlib.import_module(f"bench.{name}").main()
