"""Promotion: judge a version, move the champion's alias, and record who decided and why."""
