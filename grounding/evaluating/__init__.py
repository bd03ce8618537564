"""Evaluations that run behind the page: what is asked, what waits, and who answers it with the app's model."""
