"""What a cluster file must keep to: Ray's schema, and rules of our own."""
