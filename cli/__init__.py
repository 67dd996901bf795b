"""The `deft` command: client commands, `deft serve`, `deft admin` and `deft demo`. It never loads torch."""
