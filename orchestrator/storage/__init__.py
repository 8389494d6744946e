"""The store: where it is kept (`place`), a stage's result and an attempt at one (`result`), their records, leases."""
