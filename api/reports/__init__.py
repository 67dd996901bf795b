"""The report of a pipeline as one page and as one zip. It shows what `store.reports` gathered, nothing else."""
