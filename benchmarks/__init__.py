"""What the pipeline costs, measured beside what nobody can avoid."""
