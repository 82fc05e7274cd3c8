"""The report and the comparison as one HTML file each."""
