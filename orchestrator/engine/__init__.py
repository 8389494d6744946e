"""Runs plans: a launch (`execution`), which stage when (`order`), one stage (`stage_runner`), each kind of it (`stage_kinds`)."""
