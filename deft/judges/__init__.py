"""The operation `judge`: answers of an evaluation put before a language model, and how far it can be believed."""
