"""The door for HTTP: routes and error rendering. It holds no query and never loads torch."""
