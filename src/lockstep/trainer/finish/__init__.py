"""What happens once as a run ends: final scores, the summary and the report."""
