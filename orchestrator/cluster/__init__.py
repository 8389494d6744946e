"""Running clusters: what is sent to one as a job, its jobs afterwards, and what its nodes have and see."""
