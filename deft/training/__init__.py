"""The operation `train`: from rows to an adapter, with what makes it exact, guarded and resumable."""
