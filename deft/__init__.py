"""The DEFT method as a library: files in, files out. It knows no database, HTTP, Celery, environment or teams."""
