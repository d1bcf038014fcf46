"""GeoDjango (see base.py)."""
