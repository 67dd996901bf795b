"""From a user's files to an immutable dataset, and what is wrong with the data before a model sees it. Torch-free."""
