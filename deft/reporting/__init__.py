"""The numbers that a pipeline's report shows, from files and plain facts. Torch-free; no text of a row is read."""
