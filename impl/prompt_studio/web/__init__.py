"""The HTTP interface: FastAPI routes over an opened database, for a host application or by itself (extra `web`)."""

from prompt_studio.web.app import create_app, include_routes, watching
from prompt_studio.web.tokens import Users
from prompt_studio.web.users import user_of_request

__all__ = ["Users", "create_app", "include_routes", "user_of_request", "watching"]
