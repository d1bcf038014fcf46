"""Work that has nothing to do with the database and takes longer than the server waits."""

import os
import time


def convert(document):
    time.sleep(float(os.environ["RECIPE_PAUSE"]))
    return f"{document}.pdf"
