"""Background runs: the record of each in runs.db, the detached worker, and how it is started and stopped."""
