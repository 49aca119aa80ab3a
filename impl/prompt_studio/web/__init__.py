"""The HTTP interface: FastAPI routes over an opened database, for a host application or by itself (extra `web`)."""

from prompt_studio.web.app import create_app, include_routes
from prompt_studio.web.users import Users, user_of_request

__all__ = ["Users", "create_app", "include_routes", "user_of_request"]
