"""Runs plans: a launch (`execution`), which stage when (`order`), one stage (`stage_runner`), each kind of it (`stage_kinds`)."""

import os

# a shell may ask for the first version of Ray Train, for another project; that version lacks what `ray_engine` imports
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
