"""Base models and their tokenizers: what their folders say, whether they fit, and loading them."""
