"""Alembic's migrations. They make tables only: no roles, no extensions, nothing that needs a superuser."""
