"""Running clusters: sending a job, following jobs, and checking nodes."""
