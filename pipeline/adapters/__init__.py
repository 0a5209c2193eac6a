"""One room a vendor: each takes and returns our records, never the vendor's objects."""
