"""Runs plans: a launch (`execution`), which stage when (`order`), one stage (`stage_runner`), each kind of it (`stage_kinds`)."""

import os

os.environ["RAY_TRAIN_V2_ENABLED"] = "1"  # a shell that asks for Ray Train's first version, for another project, has other names
