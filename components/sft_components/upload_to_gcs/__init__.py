"""Upload data sets to Cloud Storage under names made from their content."""
