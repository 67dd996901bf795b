"""The door for work: one Celery task, the child process that runs an operation, the reporter and the sweeper."""
