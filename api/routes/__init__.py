"""The routes, one module a noun. A route reads its input, calls one or two functions below, and returns a document."""
