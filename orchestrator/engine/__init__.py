"""Carries plans out: jobs, engines, the order of steps, what a person sees meanwhile."""
