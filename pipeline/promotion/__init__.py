"""Which version is in use, who decided it and why."""
