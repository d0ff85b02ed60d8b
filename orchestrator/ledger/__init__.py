"""What a sweep remembers: events, records, manifest, lease of the driver."""
