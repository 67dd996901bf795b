"""The operation `evaluate`: answers, likelihoods and metrics of several systems, and the comparison in words."""
