"""Single deletion in the domain on small nets (2407.11910)."""
