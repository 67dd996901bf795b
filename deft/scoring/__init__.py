"""The operation `score`: Q_diff counted, R_d of every response, in shards and again under another Q_diff."""
