"""The project's own experiment, as docs/experiments/PLAN.md says it before it is run. `python -m bench.experiment`."""
