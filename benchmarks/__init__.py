"""Measures what the backend costs, compared with what else a user could use. README.md says how."""
