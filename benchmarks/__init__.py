"""What the backend costs, measured against what a user would pick instead. README.md says how."""
