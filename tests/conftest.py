"""How tests run: hypothesis tries the same examples in every run, and garbage is looked for seldom."""

import gc

from hypothesis import settings

# A time limit on an example would be a timed assert: a busy machine must not fail a law.
settings.register_profile("project", deadline=None, derandomize=True)
settings.load_profile("project")

# Python looks for garbage after every 700 objects; a fifth of the simulation's time went there.
gc.set_threshold(100_000, 20, 20)
