"""The Python client of the service, one method an endpoint."""
