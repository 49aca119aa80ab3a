"""The repository as the subject: its specs, its marks, its habits."""
