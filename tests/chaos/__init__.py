"""A provider that misbehaves on purpose, and a checker of what must hold all the same."""
